"""What an app's interpreter finds first in PYTHONPATH, where its agent is on."""
