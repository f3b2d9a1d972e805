"""Looking inside instances, the gateway and the host, and what is done to processes by hand.

routes   its part of the table            examples   answers, shortened
places   whom a call is about             reader     threads and processes that read, bounded
seeing   of an instance: handlers         own        of the gateway and the host: handlers
doing    kill, profile, memory dump
"""
