"""The agent: the opt-in piece inside a Python app that reports exceptions as they are raised.

path/                  the folder that PYTHONPATH gets: nothing of Triage is imported by what is in it
  sitecustomize.py     loads the agent, then the sitecustomize that would have been loaded without it
  _triage_agent/       the agent itself: standard library only, any Python from 3.8 on
"""
