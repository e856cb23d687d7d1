"""The names of special registers."""

import re

SPECIAL = re.compile(r"%(n?tid|n?ctaid)\.[xyz]|%laneid|%warpid|%nwarpid|%warpsize|%lanemask_(eq|lt|le|gt|ge)")
# Special registers whose value only a device could give, or that belong to what this machine
# lacks: a kernel that reads one cannot be run.
LACKING = re.compile(
    r"%(clock|clock_hi|clock64|globaltimer(_lo|_hi)?|smid|nsmid|gridid|pm\d+(_64)?|envreg\d+|is_explicit_cluster"
    r"|n?clusterid\.[xyz]|cluster_n?cta(id\.[xyz]|rank)|(total|aggr|dynamic)_smem_size|reserved_smem_offset_\w+"
    r"|current_graph_exec)"
)
