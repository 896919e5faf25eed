# SPDX-License-Identifier: BSD-3-Clause
# vfmig.fish: completion of vfmig's command line. What may come the program itself says: vfmig complete WORD...
function __vfmig_complete
    set -l words (commandline -opc) (commandline -ct)
    $words[1] complete $words[2..] 2>/dev/null
end
complete -c vfmig -f -a '(__vfmig_complete)'
