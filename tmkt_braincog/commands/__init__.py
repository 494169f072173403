"""The commands of ``tmkt``: what each understands and what its ``--help`` says.

Nothing heavy is imported before a command line was found good; the work is in other packages.
"""
