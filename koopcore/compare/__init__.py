"""Honest comparison of training with and without koopcore.

Reading order: ``workloads`` (what is trained), ``baselines`` (by which optimizers, at which
learning rates), ``methods`` (what is wrapped around the loop), ``protocol`` (the loop, the
charges and the score), ``schedule`` (all runs of a comparison), ``results`` (what is kept and how
it is stored), ``report`` and ``figure`` (how it is shown). The command line in ``koopcore.cli``
joins them.
"""
