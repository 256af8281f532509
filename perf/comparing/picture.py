# SPDX-License-Identifier: BSD-3-Clause
"""A picture of time over size, both logarithmic: one panel for each collective, SVG and nothing else."""
def write(path, summary, names, options, facts):
    pass
