"""What control and workers say to each other, and nothing else.

messages    the messages, typed                   channel   how they travel: whole or not at all
board       in-flight and waiting counts, shared  histogram one bucket layout, versioned
spawn       what launcher and control say (standard library only)
"""
