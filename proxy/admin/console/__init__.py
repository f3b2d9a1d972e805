"""The Console: files, commands and terminals, for admins and only where `admin.console` is true.

routes     its rows of the route table     desk       what its calls share; whether it is on, who asks
roots      the folders there are           walk       a way down from a root, by descriptors
items      what a folder has, as JSON      vfs        files and folders: read, written, removed
transfer   a file out, in ranges; content in, to a temporary file
zips       a folder out as a zip, a zip in packing    the process that packs and unpacks
command    a command, its output streamed  terminal   a shell over a WebSocket
where      where either of them runs
"""
