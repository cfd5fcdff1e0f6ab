"""Decide, plan, prove, guard, render; pure except kube.py."""
