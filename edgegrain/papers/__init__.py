"""Networks of other papers and the paper's own form of GRAIN: one folder a paper, with all that it adds.

Every other package works without this one. `export.papers` names what is added to their commands.
"""
