"""Runtimes: how the stacks of a running process are had, each by what its language offers. Nothing runs in the app.

python   py-spy                node        V8's inspector, where it is open    java     jcmd or jattach
native   eu-stack              inspector   finding and speaking with it        kernel   /proc: for all others
asking   running such a program
"""
