"""Honest comparison of training with and without koopcore.

Reading order: ``workloads`` (what is trained), ``baselines`` (by which optimizers, at which
learning rates), ``methods`` (what is wrapped around the loop: koopcore, rivals, controls),
``registry`` (all of them by name, and their tuning), ``watch`` (what keeps a method honest),
``protocol`` (the loop, the charges and the scores), ``plan`` and ``sizes`` (what a comparison is
of), ``schedule`` (all its runs), ``results`` (what is kept and how it is stored), ``statistics``,
``report`` (tables, page and pictures) and ``against`` (what has changed since earlier results).
The command line in ``koopcore.cli`` joins them.

On their own: ``arena`` (rules scored on stored trajectories) and ``paper`` (Dogra and Redman's
experiments repeated).
"""
