"""Dogra and Redman, "Optimizing Neural Networks via Koopman Operator Theory", repeated and judged.

NeurIPS 2020, arXiv 2006.02361. ``koopcore paper`` runs it; in reading order: `training` (a bare run
and its weights), `operators` (the published operators on every partition), `measures` (what a
forecast is judged by), the experiments `ode`, `mnist`, `cost` and `questions`, `run` (all of them,
resumable), `claims` (what holds), and the report: `tables`, `figures`, `report`.

Every network trains on one thread in float32; operators are fitted in float64. Nothing is chosen
after the fact: all networks are shown.
"""
