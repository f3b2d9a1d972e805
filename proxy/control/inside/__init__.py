"""Which processes an instance and Triage itself are made of, and one of them ended by hand.

family   the processes of an instance, and of all of Triage      kill   a signal to one of them, as an operation
"""
