"""Processes of the console: commands and terminals that a person asks for.

where     as whom, where and with which environment one runs: an instance's, an app's or the gateway's
kept      one program under its keeper (launcher/keeper.py): started, followed, ended with all below it
command   a program whose output is streamed, within limits
terminal  a shell on a pty
readiness waiting for a descriptor
book      the terminals there are, and how many there may be
"""
