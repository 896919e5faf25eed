/* SPDX-License-Identifier: BSD-3-Clause */
/* check_table.c: the checks, in the order in which they run: what one proves comes before what relies on it. */
#include "check.h"

#define V2_FLAGS "linux/vfio.h: struct vfio_device_feature_migration"
#define V2_FEATURE "linux/vfio.h: struct vfio_device_feature"
#define V2_ARCS "linux/vfio.h: enum vfio_device_mig_state"
#define V2_STOPCOPY "linux/vfio.h: STOP -> STOP_COPY"
#define V2_STREAM "linux/vfio.h: struct vfio_device_feature_mig_state, segmentation"
#define V2_SAME "Linux: vfio_mig_get_next_state, no arc to go"
#define V2_COMBINED "linux/vfio.h: combination transitions"
#define V2_SIZE "linux/vfio.h: struct vfio_device_feature_mig_data_size"
#define V2_FD "linux/vfio.h: data transfer session"
#define V2_ENOMSG "linux/vfio.h: PRE_COPY"
#define V2_INFO "linux/vfio.h: struct vfio_precopy_info"
#define V2_P2P "linux/vfio.h: RUNNING_P2P"
#define V2_LOG "linux/vfio.h: DMA_LOGGING_START"
#define V1_REGION "linux/vfio.h 5.8: VFIO_REGION_TYPE_MIGRATION"
#define V1_TABLE "linux/vfio.h 5.8: vfio_device_migration_info, state transitions"
#define V1_STATE "linux/vfio.h 5.8: vfio_device_migration_info, device_state"
#define V1_INVALID "linux/vfio.h 5.8: vfio_device_migration_info, invalid states"
#define V1_SAVE "linux/vfio.h 5.8: vfio_device_migration_info, _SAVING"
#define V1_LOAD "linux/vfio.h 5.8: vfio_device_migration_info, _RESUMING"
#define BOTH_STATE "linux/vfio.h: device_state"
#define BOTH_SAVE "linux/vfio.h: end of the saved data"
#define BOTH_RESET "linux/vfio.h: VFIO_DEVICE_RESET"
#define RESETFLAG "linux/vfio.h: VFIO_DEVICE_FLAGS_RESET"
#define BOTH_LOAD "linux/vfio.h: RESUMING"
#define BOTH_BAD "linux/vfio.h: RESUMING -> STOP; v1: QEMU relies on it"
#define BOTH_QUIET "linux/vfio.h: STOP"
#define BOTH_LOG "linux/vfio.h: DMA_LOGGING_REPORT, VFIO_IOMMU_DIRTY_PAGES"
#define BOTH_CANCEL "QEMU: vfio_migration_state_notifier"
#define QNOTIFY "QEMU 7.2: vfio_migration_state_notifier"
#define QSETUP "QEMU 7.2: vfio_save_setup"
#define QCHANGE "QEMU 7.2: vfio_vmstate_change"
#define QCONFIG "QEMU: vfio_save_device_config_state"
#define QLIMIT "QEMU: downtime-limit"
#define OWN "vfmig: what a move relies on"

/* clang-format would make four lines of each */
#define ROW(name, protocols, does, fn, from, to, proves, rule, source) \
	{ name, CHECK_##protocols, does, check_##fn, from, to, proves, rule, source }
#define S(state) VFMIG_STATE_##state
#define MOVES CHECK_MOVES
#define RESETS CHECK_RESETS
#define LOADS CHECK_LOADS
#define CONFIG CHECK_CONFIG
#define LOGS CHECK_LOGS
#define DMA CHECK_DMA
#define ALWAYS CHECK_ALWAYS
#define OP(name) CHECK_OP(name)

const struct check check_table[] = {
	ROW("flags", V2, 0, flags, 0, 0, 0,
	    "The migration flags have STOP_COPY, and no bit that is not known", V2_FLAGS),
	ROW("features", V2, 0, features, 0, 0, 0,
	    "PROBE answers for what a migration needs: flags, and the state to be read and set", V2_FEATURE),
	ROW("unknown-feature", V2, 0, unknown_feature, 0, 0, 0,
	    "A feature that does not exist is refused with ENOTTY (vfio-user: EINVAL)", V2_FEATURE),
	ROW("wrong-operation", V2, 0, wrong_operation, 0, 0, 0,
	    "SET of what can only be read is refused", V2_FEATURE),
	ROW("region", V1, 0, region, 0, 0, 0,
	    "The migration region can be read and written and has a data section behind its registers", V1_REGION),
	ROW("state-read", BOTH, ALWAYS, state_read, 0, 0, OP(STATE),
	    "The state reads as one of the interface, and the same again", BOTH_STATE),
	ROW("config-read", BOTH, 0, config_read, 0, 0, OP(CONFIG_READ),
	    "Config space, which a migration carries, reads the same at any width", QCONFIG),
	ROW("config-write", BOTH, CONFIG, config_write, 0, 0, OP(CONFIG_WRITE),
	    "Config space takes what was read from it", QCONFIG),
	ROW("arc-running-to-running-p2p", V2, MOVES, arc, S(RUNNING), S(RUNNING_P2P), 0,
	    "RUNNING to RUNNING_P2P", V2_ARCS),
	ROW("arc-running-p2p-to-running", V2, MOVES, arc, S(RUNNING_P2P), S(RUNNING), 0,
	    "RUNNING_P2P to RUNNING", V2_ARCS),
	ROW("arc-running-p2p-to-stop", V2, MOVES, arc, S(RUNNING_P2P), S(STOP), 0,
	    "RUNNING_P2P to STOP", V2_ARCS),
	ROW("arc-stop-to-running-p2p", V2, MOVES, arc, S(STOP), S(RUNNING_P2P), 0,
	    "STOP to RUNNING_P2P", V2_ARCS),
	ROW("arc-running-to-stop", V2_NO_P2P, MOVES, arc, S(RUNNING), S(STOP), 0,
	    "RUNNING to STOP", V2_ARCS),
	ROW("arc-stop-to-running", V2_NO_P2P, MOVES, arc, S(STOP), S(RUNNING), 0,
	    "STOP to RUNNING", V2_ARCS),
	ROW("arc-running-to-stop", V1, MOVES, arc, S(RUNNING), S(STOP), 0,
	    "001b to 000b: an ordinary stop", V1_TABLE),
	ROW("arc-stop-to-running", V1, MOVES, arc, S(STOP), S(RUNNING), 0,
	    "000b to 001b: the machine goes on", QCHANGE),
	ROW("reserved-bits", V1, MOVES, reserved, 0, 0, 0,
	    "Bits 3 to 31 of device_state stay as they are when they are written back", V1_STATE),
	ROW("arc-stop-to-stop-copy", V2, MOVES, arc, S(STOP), S(STOP_COPY), 0,
	    "STOP to STOP_COPY", V2_ARCS),
	ROW("arc-stop-copy-to-stop", V2, MOVES, arc, S(STOP_COPY), S(STOP), 0,
	    "STOP_COPY to STOP", V2_ARCS),
	ROW("arc-running-to-stop-copy", V1, MOVES, arc, S(RUNNING), S(STOP_COPY), 0,
	    "001b to 010b: a save without pre-copy", V1_TABLE),
	ROW("arc-stop-copy-to-stop", V1, MOVES, arc, S(STOP_COPY), S(STOP), 0,
	    "010b to 000b: a save has ended", V1_TABLE),
	ROW("arc-stop-to-stop-copy", V1, MOVES, arc, S(STOP), S(STOP_COPY), 0,
	    "000b to 010b: the save of a stopped machine", QSETUP),
	ROW("arc-stop-copy-to-running", V1, MOVES, arc, S(STOP_COPY), S(RUNNING), 0,
	    "010b to 001b: a save is cancelled", QNOTIFY),
	ROW("arc-running-to-pre-copy", V2, MOVES, arc, S(RUNNING), S(PRE_COPY), 0,
	    "RUNNING to PRE_COPY", V2_ARCS),
	ROW("arc-pre-copy-to-running", V2, MOVES, arc, S(PRE_COPY), S(RUNNING), 0,
	    "PRE_COPY to RUNNING", V2_ARCS),
	ROW("arc-pre-copy-to-pre-copy-p2p", V2, MOVES, arc, S(PRE_COPY), S(PRE_COPY_P2P), 0,
	    "PRE_COPY to PRE_COPY_P2P", V2_ARCS),
	ROW("arc-pre-copy-p2p-to-pre-copy", V2, MOVES, arc, S(PRE_COPY_P2P), S(PRE_COPY), 0,
	    "PRE_COPY_P2P to PRE_COPY", V2_ARCS),
	ROW("arc-running-p2p-to-pre-copy-p2p", V2, MOVES, arc, S(RUNNING_P2P), S(PRE_COPY_P2P), 0,
	    "RUNNING_P2P to PRE_COPY_P2P", V2_ARCS),
	ROW("arc-pre-copy-p2p-to-running-p2p", V2, MOVES, arc, S(PRE_COPY_P2P), S(RUNNING_P2P), 0,
	    "PRE_COPY_P2P to RUNNING_P2P", V2_ARCS),
	ROW("arc-pre-copy-p2p-to-stop-copy", V2, MOVES, arc, S(PRE_COPY_P2P), S(STOP_COPY), 0,
	    "PRE_COPY_P2P to STOP_COPY", V2_ARCS),
	ROW("arc-pre-copy-to-stop-copy", V2_NO_P2P, MOVES, arc, S(PRE_COPY), S(STOP_COPY), 0,
	    "PRE_COPY to STOP_COPY", V2_ARCS),
	ROW("arc-running-to-pre-copy", V1, MOVES, arc, S(RUNNING), S(PRE_COPY), 0,
	    "001b to 011b: a live save begins, also of a device without pre-copy data", V1_TABLE),
	ROW("arc-pre-copy-to-stop-copy", V1, MOVES, arc, S(PRE_COPY), S(STOP_COPY), 0,
	    "011b to 010b: the switch", V1_TABLE),
	ROW("arc-pre-copy-to-running", V1, MOVES, arc, S(PRE_COPY), S(RUNNING), 0,
	    "011b to 001b: a live save is cancelled", QNOTIFY),
	ROW("pending-bytes", V1, MOVES, pending, 0, 0, OP(PENDING),
	    "pending_bytes is above 0 when stop-and-copy begins, and the same when read again", V1_SAVE),
	ROW("data-offset", V1, MOVES, offset, 0, 0, OP(OFFSET),
	    "data_offset lies in the data section, and is the same when read again", V1_SAVE),
	ROW("data-size", V1, MOVES, size, 0, 0, OP(SIZE),
	    "data_size is above 0, fits into the region, and is the same when read again", V1_SAVE),
	ROW("data-read", V1, MOVES, section_read, 0, 0, OP(READ),
	    "A transaction stays as it is until it is acknowledged, however it is read", V1_SAVE),
	ROW("mapping", V1, MOVES, mapped, 0, 0, 0,
	    "What of the section can be mapped is the same there", V1_REGION),
	ROW("pending-falls", V1, MOVES | ALWAYS, data_read, 0, 0, OP(DRAIN),
	    "In stop-and-copy pending_bytes falls to 0, at the end of the state", V1_SAVE),
	ROW("data-read", V2, MOVES | ALWAYS, data_read, 0, 0, OP(READ) | OP(DRAIN),
	    "In STOP_COPY the state reads to its end, which is 0 bytes; never ENOMSG", V2_STOPCOPY),
	ROW("read-sizes", V2, MOVES, read_sizes, 0, 0, OP(READ) | OP(DRAIN),
	    "The size of reads means nothing: in other pieces it is the same state", V2_STREAM),
	ROW("save-twice", BOTH, MOVES, twice, 0, 0, 0,
	    "A stopped device saved twice gives the same state", OWN),
	ROW("end-stays", BOTH, MOVES, end_stays, 0, 0, 0,
	    "At its end the state stays there, in STOP_COPY", BOTH_SAVE),
	ROW("again-in-transfer", V2, MOVES, again_in_transfer, S(STOP_COPY), S(STOP_COPY), 0,
	    "STOP_COPY requested in STOP_COPY does not disturb the transfer", V2_SAME),
	ROW("stop-copy-length", V2, MOVES, size_told, 0, 0, 0,
	    "stop_copy_length is not below what STOP_COPY then gives", V2_SIZE),
	ROW("reset", BOTH, RESETS, reset_from, S(RUNNING), S(RUNNING), OP(RESET),
	    "A reset leads to RUNNING", BOTH_RESET),
	ROW("reset-flag", BOTH, RESETS, reset_flag, 0, 0, 0,
	    "The device says so if it can be reset, and only then", RESETFLAG),
	ROW("arc-stop-to-resuming", V2, MOVES | RESETS, arc, S(STOP), S(RESUMING), 0,
	    "STOP to RESUMING", V2_ARCS),
	ROW("arc-running-to-resuming", V1, MOVES | RESETS, arc, S(RUNNING), S(RESUMING), 0,
	    "001b to 100b: a load begins", V1_TABLE),
	ROW("data-write", BOTH, MOVES | LOADS | RESETS, data_write, 0, 0, OP(WRITE),
	    "RESUMING takes data", BOTH_LOAD),
	ROW("data-consumed", V1, MOVES | LOADS | RESETS, consume, 0, 0, OP(CONSUME),
	    "data_size written consumes the transaction", V1_LOAD),
	ROW("arc-resuming-to-stop", V2, MOVES | LOADS, arc, S(RESUMING), S(STOP), 0,
	    "RESUMING to STOP with a whole state", V2_ARCS),
	ROW("arc-resuming-to-running", V1, MOVES | LOADS, arc, S(RESUMING), S(RUNNING), 0,
	    "100b to 001b with a whole state", V1_TABLE),
	ROW("load", BOTH, MOVES | LOADS | RESETS | DMA, load_original, 0, 0, OP(LOAD),
	    "What was saved, loaded in the same pieces, is what is saved then", BOTH_LOAD),
	ROW("load-by-bytes", V2, MOVES | LOADS | RESETS | DMA, load_bytes, 0, 0, 0,
	    "A state loaded by writes of 1 byte (32 at each end) is the same", V2_STREAM),
	ROW("load-odd", V2, MOVES | LOADS | RESETS | DMA, load_odd, 0, 0, 0,
	    "A state loaded by writes of 1021 bytes is the same", V2_STREAM),
	ROW("load-1-mib", V2, MOVES | LOADS | RESETS | DMA, load_large, 0, 0, 0,
	    "A state loaded by writes of 1 MiB is the same", V2_STREAM),
	ROW("load-in-pieces", V1, MOVES | LOADS | RESETS | DMA, load_odd, 0, 0, 0,
	    "A transaction put into the section in pieces of 4104 bytes is the same", V1_LOAD),
	ROW("same-running", V2, MOVES, same_state, S(RUNNING), S(RUNNING), 0,
	    "RUNNING requested in RUNNING does nothing", V2_SAME),
	ROW("same-stop", V2, MOVES, same_state, S(STOP), S(STOP), 0,
	    "STOP requested in STOP does nothing", V2_SAME),
	ROW("same-stop-copy", V2, MOVES, same_state, S(STOP_COPY), S(STOP_COPY), 0,
	    "STOP_COPY requested in STOP_COPY does nothing", V2_SAME),
	ROW("same-resuming", V2, MOVES | RESETS, same_state, S(RESUMING), S(RESUMING), 0,
	    "RESUMING requested in RESUMING does nothing", V2_SAME),
	ROW("same-running-p2p", V2, MOVES, same_state, S(RUNNING_P2P), S(RUNNING_P2P), 0,
	    "RUNNING_P2P requested in RUNNING_P2P does nothing", V2_SAME),
	ROW("same-pre-copy", V2, MOVES, same_state, S(PRE_COPY), S(PRE_COPY), 0,
	    "PRE_COPY requested in PRE_COPY does nothing", V2_SAME),
	ROW("same-pre-copy-p2p", V2, MOVES, same_state, S(PRE_COPY_P2P), S(PRE_COPY_P2P), 0,
	    "PRE_COPY_P2P requested in PRE_COPY_P2P does nothing", V2_SAME),
	ROW("ways-from-running", V2, MOVES | LOADS | RESETS, walk, S(RUNNING), S(RUNNING), 0,
	    "From RUNNING each state that has a way is reached by one request", V2_COMBINED),
	ROW("ways-from-stop", V2, MOVES | LOADS | RESETS, walk, S(STOP), S(STOP), 0,
	    "From STOP each state that has a way is reached by one request", V2_COMBINED),
	ROW("ways-from-stop-copy", V2, MOVES | LOADS | RESETS, walk, S(STOP_COPY), S(STOP_COPY), 0,
	    "From STOP_COPY each state that has a way is reached by one request", V2_COMBINED),
	ROW("ways-from-resuming", V2, MOVES | LOADS | RESETS, walk, S(RESUMING), S(RESUMING), 0,
	    "From RESUMING each state that has a way is reached by one request", V2_COMBINED),
	ROW("ways-from-running-p2p", V2, MOVES | LOADS | RESETS, walk, S(RUNNING_P2P), S(RUNNING_P2P), 0,
	    "From RUNNING_P2P each state that has a way is reached by one request", V2_COMBINED),
	ROW("ways-from-pre-copy", V2, MOVES | LOADS | RESETS, walk, S(PRE_COPY), S(PRE_COPY), 0,
	    "From PRE_COPY each state that has a way is reached by one request", V2_COMBINED),
	ROW("ways-from-pre-copy-p2p", V2, MOVES | LOADS | RESETS, walk, S(PRE_COPY_P2P), S(PRE_COPY_P2P), 0,
	    "From PRE_COPY_P2P each state that has a way is reached by one request", V2_COMBINED),
	ROW("refused-in-running", V2, MOVES, refused, S(RUNNING), S(RUNNING), 0,
	    "In RUNNING no state is reached that has no way, does not exist or that the device does not have; "
	    "RUNNING stays", V2_COMBINED),
	ROW("refused-in-stop", V2, MOVES, refused, S(STOP), S(STOP), 0,
	    "In STOP no state is reached that has no way, does not exist or that the device does not have; "
	    "STOP stays", V2_COMBINED),
	ROW("refused-in-stop-copy", V2, MOVES, refused, S(STOP_COPY), S(STOP_COPY), 0,
	    "In STOP_COPY no state is reached that has no way, does not exist or that the device does not "
	    "have; STOP_COPY stays", V2_COMBINED),
	ROW("refused-in-resuming", V2, MOVES | RESETS, refused, S(RESUMING), S(RESUMING), 0,
	    "In RESUMING no state is reached that has no way, does not exist or that the device does not "
	    "have; RESUMING stays", V2_COMBINED),
	ROW("refused-in-running-p2p", V2, MOVES, refused, S(RUNNING_P2P), S(RUNNING_P2P), 0,
	    "In RUNNING_P2P no state is reached that has no way, does not exist or that the device does not "
	    "have; RUNNING_P2P stays", V2_COMBINED),
	ROW("refused-in-pre-copy", V2, MOVES, refused, S(PRE_COPY), S(PRE_COPY), 0,
	    "In PRE_COPY no state is reached that has no way, does not exist or that the device does not "
	    "have; PRE_COPY stays", V2_COMBINED),
	ROW("refused-in-pre-copy-p2p", V2, MOVES, refused, S(PRE_COPY_P2P), S(PRE_COPY_P2P), 0,
	    "In PRE_COPY_P2P no state is reached that has no way, does not exist or that the device does not "
	    "have; PRE_COPY_P2P stays", V2_COMBINED),
	ROW("refused-in-running", V1, MOVES, refused, S(RUNNING), S(RUNNING), 0,
	    "101b, 110b and 111b are refused, and the device stays as it is", V1_INVALID),
	ROW("refused-in-stop", V1, MOVES, refused, S(STOP), S(STOP), 0,
	    "101b, 110b and 111b are refused, and the device stays as it is", V1_INVALID),
	ROW("refused-in-stop-copy", V1, MOVES, refused, S(STOP_COPY), S(STOP_COPY), 0,
	    "101b, 110b and 111b are refused, and the device stays as it is", V1_INVALID),
	ROW("refused-in-resuming", V1, MOVES | RESETS, refused, S(RESUMING), S(RESUMING), 0,
	    "101b, 110b and 111b are refused, and the device stays as it is", V1_INVALID),
	ROW("refused-in-pre-copy", V1, MOVES, refused, S(PRE_COPY), S(PRE_COPY), 0,
	    "101b, 110b and 111b are refused, and the device stays as it is", V1_INVALID),
	ROW("reset-in-stop", BOTH, MOVES | RESETS, reset_from, S(STOP), S(STOP), 0,
	    "A reset in STOP leads to RUNNING", BOTH_RESET),
	ROW("reset-in-stop-copy", BOTH, MOVES | RESETS, reset_from, S(STOP_COPY), S(STOP_COPY), 0,
	    "A reset in STOP_COPY leads to RUNNING", BOTH_RESET),
	ROW("reset-in-resuming", BOTH, MOVES | RESETS, reset_from, S(RESUMING), S(RESUMING), 0,
	    "A reset in RESUMING leads to RUNNING", BOTH_RESET),
	ROW("reset-in-running-p2p", V2, MOVES | RESETS, reset_from, S(RUNNING_P2P), S(RUNNING_P2P), 0,
	    "A reset in RUNNING_P2P leads to RUNNING", BOTH_RESET),
	ROW("reset-in-pre-copy", BOTH, MOVES | RESETS, reset_from, S(PRE_COPY), S(PRE_COPY), 0,
	    "A reset in PRE_COPY leads to RUNNING", BOTH_RESET),
	ROW("reset-in-pre-copy-p2p", V2, MOVES | RESETS, reset_from, S(PRE_COPY_P2P), S(PRE_COPY_P2P), 0,
	    "A reset in PRE_COPY_P2P leads to RUNNING", BOTH_RESET),
	ROW("data-ends", V2, MOVES | LOADS, data_ends, 0, 0, 0,
	    "Out of a transfer's states its data is neither read nor written", V2_FD),
	ROW("data-fd", V2, MOVES | RESETS, fd_given, 0, 0, 0,
	    "A data_fd comes with each new transfer, and none with what goes on with one or ends it", V2_FD),
	ROW("data-fd-ends", V2, MOVES | RESETS, fd_ends, 0, 0, 0,
	    "The data_fd of a transfer that has ended gives ENODEV", V2_FD),
	ROW("nothing-loaded", BOTH, MOVES | RESETS, nothing_loaded, 0, 0, 0,
	    "RESUMING is not left without a state", BOTH_BAD),
	ROW("truncated", BOTH, MOVES | LOADS | RESETS, truncated, 0, 0, 0,
	    "RESUMING is not left with 1 byte, half, or all but 1 byte of a state", BOTH_BAD),
	ROW("surplus", BOTH, MOVES | LOADS | RESETS, surplus, 0, 0, 0,
	    "8 bytes behind a whole state are refused, when written or on the way out", BOTH_BAD),
	ROW("after-refusal", BOTH, MOVES | LOADS | RESETS, after_refusal, 0, 0, 0,
	    "After a refused load and a reset the device loads again", BOTH_RESET),
	ROW("pre-copy-ends", V1, MOVES | RESETS, precopy_ends, S(PRE_COPY), S(PRE_COPY), 0,
	    "An idle device's pre-copy comes to pending_bytes 0, in 011b", V1_SAVE),
	ROW("pre-copy-enomsg", V2, MOVES | RESETS, precopy_read, S(PRE_COPY), S(PRE_COPY), 0,
	    "With nothing to read PRE_COPY says ENOMSG, never 0", V2_ENOMSG),
	ROW("pre-copy-p2p-enomsg", V2, MOVES | RESETS, precopy_read, S(PRE_COPY_P2P), S(PRE_COPY_P2P), 0,
	    "With nothing to read PRE_COPY_P2P says ENOMSG, never 0", V2_ENOMSG),
	ROW("pre-copy-info", V2, MOVES | RESETS, precopy_info, S(PRE_COPY), S(PRE_COPY), OP(PENDING),
	    "Pre-copy info tells of what can be read, and of nothing when all is read", V2_INFO),
	ROW("pre-copy-info-falls", V2, MOVES | RESETS, precopy_falls, S(PRE_COPY), S(PRE_COPY), 0,
	    "initial_bytes never rises; of an idle device what is told never does", V2_INFO),
	ROW("pre-copy-info-outside", V2, MOVES | RESETS, precopy_outside, S(PRE_COPY), S(PRE_COPY), 0,
	    "Outside of pre-copy its info is EINVAL", V2_INFO),
	ROW("pre-copy-goes-on", BOTH, MOVES | LOADS | RESETS | DMA, transfer_goes_on, S(PRE_COPY), S(PRE_COPY), 0,
	    "What pre-copy and stop-and-copy give is one state", BOTH_SAVE),
	ROW("pre-copy-p2p-goes-on", V2, MOVES | LOADS | RESETS | DMA, transfer_goes_on, S(PRE_COPY_P2P),
	    S(PRE_COPY_P2P), 0,
	    "What PRE_COPY_P2P and STOP_COPY give is one state", V2_FD),
	ROW("cancel-pre-copy", BOTH, MOVES | DMA, cancel, S(PRE_COPY), S(PRE_COPY), 0,
	    "A save cancelled in PRE_COPY leaves the device as it was", BOTH_CANCEL),
	ROW("cancel-pre-copy-p2p", V2, MOVES | DMA, cancel, S(PRE_COPY_P2P), S(PRE_COPY_P2P), 0,
	    "A save cancelled in PRE_COPY_P2P leaves the device as it was", BOTH_CANCEL),
	ROW("cancel-stop-copy", BOTH, MOVES | DMA, cancel, S(STOP_COPY), S(STOP_COPY), 0,
	    "A save cancelled in STOP_COPY leaves the device as it was", BOTH_CANCEL),
	ROW("cancel-resuming", BOTH, MOVES | LOADS | RESETS, cancel_load, S(RESUMING), S(RESUMING), 0,
	    "A load given up in the middle by a reset leaves nothing behind", BOTH_RESET),
	ROW("quiet-in-stop", BOTH, MOVES | DMA, quiet, S(STOP), S(STOP), 0,
	    "In STOP the device does no work, and goes on when it runs again", BOTH_QUIET),
	ROW("quiet-in-running-p2p", V2, MOVES | DMA, quiet, S(RUNNING_P2P), S(RUNNING_P2P), 0,
	    "In RUNNING_P2P the device starts no DMA, and goes on when it runs again", V2_P2P),
	ROW("answers-in-stop", V2, MOVES, answers, S(STOP), S(STOP), 0,
	    "In STOP config space answers as ever", BOTH_QUIET),
	ROW("answers-in-running-p2p", V2, MOVES, answers, S(RUNNING_P2P), S(RUNNING_P2P), 0,
	    "In RUNNING_P2P config space answers as ever", V2_P2P),
	ROW("log", BOTH, LOGS | DMA, log_cycle, 0, 0, OP(LOG),
	    "The log of written pages starts, reports and ends", BOTH_LOG),
	ROW("log-twice", V2, LOGS, log_twice, 0, 0, 0,
	    "A log that is on is not started again", V2_LOG),
	ROW("log-ended", V2, LOGS, log_ended, 0, 0, 0,
	    "After its end there is no report", V2_LOG),
	ROW("log-exact", BOTH, MOVES | LOGS | DMA, log_exact, 0, 0, 0,
	    "Each page that was written is reported, and no other", BOTH_LOG),
	ROW("log-forgets", BOTH, MOVES | LOGS | DMA, log_forgets, 0, 0, 0,
	    "What was reported is not reported again", BOTH_LOG),
	ROW("leaks", BOTH, MOVES | LOADS, leaks, 0, 0, 0,
	    "Saving and loading over and over holds no more fds and memory", OWN),
	ROW("restored", BOTH, MOVES | LOADS | ALWAYS, restored, 0, 0, 0,
	    "The state that was read first is loaded again", OWN),
	ROW("time-arcs", BOTH, 0, time_arcs, 0, 0, 0,
	    "No arc takes longer than --limit, at its fastest", QLIMIT),
	ROW("time-requests", BOTH, 0, time_requests, 0, 0, 0,
	    "No request, read or write takes longer than --limit, at its fastest", QLIMIT),
	ROW("time-reset", BOTH, 0, time_reset, 0, 0, 0,
	    "A reset does not take longer than --limit, at its fastest", QLIMIT),
};

const size_t check_count = sizeof(check_table) / sizeof(check_table[0]);
