"""The last stage of a session: `write(folder)` makes report.html and report.json of what lies in its folder.

write     the two files; the only place that catches     contents  what there is to show, read from the folder
parts     the registry: what stands in it, in order      page      parts to one HTML document
answer    the text of `why`: the first screen            markup    elements; the one place that escapes

Each of the others is one part, or a few small ones. A part is two pure functions: from contents to data, bounded,
and from data to HTML. Secrets are masked in the data, between the two, so that both files say the same.
"""

from proxy.diagnostics.report.write import HTML, JSON, write

__all__ = ["HTML", "JSON", "write"]
