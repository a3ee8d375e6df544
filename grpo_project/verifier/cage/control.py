"""What a cage (the trusted side) and its zygote say to each other, over a SEQPACKET socket:

-> {"isolation": level, "numpy_site": folder or None}      once (marshal)
<- {"maps": True}, -> MAPPED                               once, where the parent has to write the user maps
<- {"ready": level}                                        once
-> START, with descriptors [link] or [link, stdin, stdout] fork a child
-> KILL                                                    end the child now
<- {"status": wait status, "cpu_s": s, "retire": bool}     the child is gone, and all that it started;
                                                           "retire": it left something behind
<- {"fault": text}                                         no child could be made
"""

import struct

KILL, MAPPED = b"kill", b"mapped"
START = struct.Struct("=QQ")
"""CPU seconds and bytes of memory that the child may use (``Limits.of_process``)."""
