"""Honest comparison of training with and without koopcore.

Reading order: ``workloads`` (what is trained), ``baselines`` (by which optimizers, at which
learning rates), ``methods`` (what is wrapped around the loop), ``accelerated`` and ``averages``
(koopcore, its rivals and the controls), ``registry`` (all of them by name, and their tuning),
``protocol`` (the loop, the charges and the scores), ``schedule`` (all runs of a comparison),
``results`` (what is kept and how it is stored), ``summary``, ``report`` and ``figure`` (how it is
shown). The command line in ``koopcore.cli`` joins them. On its own: ``paper`` (the
differential-equation experiment of Dogra and Redman).
"""
