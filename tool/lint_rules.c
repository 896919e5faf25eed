/* SPDX-License-Identifier: BSD-3-Clause */
/* lint_rules.c: the rules by number: what has to be so, where that is written, and what helps if it is not. */
#include <stdio.h>

#include "lint.h"
#include "output.h"

#define FRAMING "vfmig-stream(5), FRAMING"
#define COMMANDS "vfmig-stream(5), FRAMING, Commands"
#define VFIO "vfmig-stream(5), VFIO SECTIONS"
#define RECORD "vfmig-stream(5), VFIO SECTIONS, The config record"
#define RAM "vfmig-stream(5), OTHER SECTIONS"
#define DESCRIPTION "vfmig-stream(5), VMDESCRIPTION"
#define OWN "vfmig-stream(5), The object of vfmig"
#define CHANNELS "vfmig-stream(5), CHANNELS"
#define QEMU_MACHINE "qemu(1), -machine"

/* Remedies that several have. */
#define AGAIN "the file was damaged or written by something else: save or copy it again"
#define WRITER "the program that wrote it is wrong here: mend it"

const struct lint_rule lint_rules[] = {
	{ FAULT_MAGIC, "magic", "A stream begins with QEVM.", FRAMING,
	  "give the stream itself: uncompressed, decrypted, and from where it begins (--offset)" },
	{ FAULT_VERSION, "version", "The stream's version is 3.", FRAMING, AGAIN },
	{ FAULT_TRUNCATED, "truncated", "No record is cut off.", FRAMING,
	  "the copy or the save was interrupted: make it again, and look at the source for the reason" },
	{ FAULT_MACHINE_NAME, "machine-name", "The machine's name has 1 to 255 bytes and no NUL.", FRAMING, WRITER },
	{ FAULT_CONFIGURATION, "configuration", "CONFIGURATION has no subsections but the known ones.", FRAMING,
	  "switch off at the source what brings it, or use a vfmig that knows it" },
	{ FAULT_CONFIGURATION_PLACE, "configuration-place", "CONFIGURATION stands behind the header only.", FRAMING,
	  WRITER },
	{ FAULT_RECORD_TYPE, "record-type", "A record is a section (01 to 04), a command (08) or the end (00).",
	  FRAMING, "the record before it is longer or shorter than it says: look there" },
	{ FAULT_SECTION_ID, "section-id", "A section's id is not empty and has no NUL.", FRAMING, WRITER },
	{ FAULT_SECTION_NUMBER_TWICE, "number-twice", "A START brings a number that no section has.", FRAMING,
	  "give each device a number of its own" },
	{ FAULT_SECTION_ID_TWICE, "id-twice", "An id with an instance has one number only.", FRAMING,
	  "give each device an instance of its own, and use one number for all its sections" },
	{ FAULT_FULL_DIFFERS, "full-differs", "A FULL has the id and instance that its number's START had.", FRAMING,
	  WRITER },
	{ FAULT_FULL_TWICE, "full-twice", "A number has one FULL.", FRAMING, WRITER },
	{ FAULT_NEVER_STARTED, "never-started", "PART and END come behind the START of their number.", FRAMING,
	  "write the device's START first; or the beginning of the stream was lost" },
	{ FAULT_AFTER_END, "after-end", "Behind a number's END there is no PART or END of it.", FRAMING, WRITER },
	{ FAULT_NO_FOOTER, "footer", "A section's body is followed by its footer, 7e and the number.", FRAMING,
	  "the body is longer or shorter than its end or the description says: compare it with a good one (vfmig "
	  "inspect A B); a machine type up to 2.3 has no footers" },
	{ FAULT_OTHER_FOOTER, "other-footer", "A footer has its own section's number.", FRAMING, WRITER },
	{ FAULT_NO_END, "no-end", "Every START has an END before the stream's end.", FRAMING,
	  "write the device's END, even with nothing in it; or the save was given up" },
	{ FAULT_COMMAND, "command-length", "A command has the length that it always has.", COMMANDS, WRITER },
	{ FAULT_POSTCOPY, "postcopy", "The capability postcopy-ram is off.", COMMANDS,
	  "switch it off at the source, or load with a QEMU that has it on" },
	{ FAULT_SECTIONS_MAX, "sections-max", "A stream has no more than 1024 sections.", FRAMING, WRITER },
	{ FAULT_UNKNOWN_SECTION, "unknown-section", "What has a START is ram or a VFIO device.", RAM,
	  "remove the device from the machine, or save it without (a block migration, dirty bitmaps, slirp)" },
	{ LINT_NO_CONFIGURATION, "no-configuration", "CONFIGURATION names the machine.", FRAMING,
	  "save with --machine; a QEMU of 2.4 and later refuses a stream without" },
	{ LINT_UNKNOWN_COMMAND, "unknown-command", "A command is one that QEMU knows.", COMMANDS,
	  "leave it out: a QEMU that does not know it gives up the load" },
	{ FAULT_BEHIND_EOF, "behind-eof", "Behind the end (00) there is a description (06) or nothing.", FRAMING,
	  AGAIN },
	{ FAULT_DESCRIPTION_LENGTH, "description-length", "A description has 1 byte to 64 MiB.", DESCRIPTION, AGAIN },
	{ FAULT_DESCRIPTION, "description", "The description is one, and stays the same.", DESCRIPTION, AGAIN },
	{ FAULT_UNDESCRIBED, "undescribed", "The description tells how long every FULL section is.", DESCRIPTION,
	  "keep the description: not -machine suppress-vmdesc=on, and the stream to its end" },
	{ FAULT_BEHIND_END, "behind-end", "Nothing stands behind the description.", DESCRIPTION,
	  "cut the file off there; QEMU does not read it" },
	{ FAULT_VFMIG_OBJECT, "vfmig-object", "The object \"vfmig\" is there if and only if vfmig wrote the stream.",
	  OWN, AGAIN },
	{ FAULT_SEAL, "seal", "The seal is the digest of every byte before it.", OWN, AGAIN },
	{ LINT_NOT_IN_STREAM, "not-in-stream", "What the description names is in the stream.", DESCRIPTION,
	  "a section was taken out: a destination that has the device starts it as new" },
	{ LINT_NOT_DESCRIBED, "not-described", "The description names every section.", DESCRIPTION,
	  "a section was put in: write a description that has it" },
	{ FAULT_VFIO_FLAG, "vfio-flag", "A VFIO body consists of packets with the known flags.", VFIO,
	  "the packet before it is longer or shorter than it says, or a newer QEMU wrote it: see its release notes" },
	{ FAULT_CONFIG_VERSION, "config-version", "The config record has version 2.", RECORD, WRITER },
	{ FAULT_CONFIG_END, "config-length", "The config record has the length that its config space asks for.", RECORD,
	  "write 256 or 4096 bytes of it, four levels, and as many vectors as its MSI-X capability says" },
	{ FAULT_PACKET_LENGTH, "packet-length", "What is not data is no longer than 64 KiB.", VFIO, WRITER },
	{ LINT_SETUP, "setup", "A device's START is SETUP and END_OF_STATE, and nothing else has SETUP.", VFIO,
	  "write SETUP into START alone: the destination goes to RESUMING at START" },
	{ LINT_CONFIG_EARLY, "config-early", "The config record comes behind the last data.", VFIO,
	  "write it in FULL, behind the device's END: it sets registers that the state needs to be there for" },
	{ LINT_NO_CONFIG, "no-config", "Each device with data has a config record.", VFIO,
	  "write it in FULL; without it the destination's registers are those of a reset" },
	{ LINT_DATA_PLACE, "data-place", "Data stands in PART and END.", VFIO,
	  "write it there: QEMU is not resuming before START's end nor behind END" },
	{ LINT_VFIO_VERSION, "vfio-version", "A VFIO section has version 1.", VFIO, WRITER },
	{ LINT_INIT_DATA_PLACE, "init-data", "INIT_DATA_SENT ends one PART of a device.", VFIO,
	  "write it once, before the device is stopped" },
	{ LINT_INTX, "intx", "An interrupt's level is 0 or 1.", RECORD, WRITER },
	{ LINT_NO_DEVICE, "no-device", "The config space is that of a device that is there (vendor not ffff).", RECORD,
	  "it did not answer when it was read: reset, powered down or taken out at the source" },
	{ LINT_CAPABILITIES, "capabilities", "The list of capabilities ends, and lies behind the header.", RECORD,
	  "the device's config space is wrong: compare it with lspci -xxx at the source" },
	{ FAULT_RAM_VERSION, "ram-version", "The section ram has version 4.", RAM, WRITER },
	{ FAULT_RAM_FLAGS, "ram-flags", "A word of ram has the known flags.", RAM,
	  "the packet before it is longer or shorter than it says; or pages are not of 4096 bytes" },
	{ FAULT_RAM_HOOK, "ram-hook", "Memory does not go by RDMA.", RAM, "use tcp: or unix: at the source" },
	{ FAULT_RAM_LIST, "ram-list", "The blocks' sizes make up the memory's size.", RAM,
	  "a capability that changes the list may be on: postcopy-ram, x-ignore-shared, mapped-ram" },
	{ FAULT_RAM_NO_BLOCK, "ram-no-block", "The first page names its block.", RAM, WRITER },
	{ FAULT_RAM_LENGTH, "ram-length", "A compressed page is not longer than it may be.", RAM, WRITER },
	{ FAULT_RAM_MAPPED, "ram-mapped", "A mapped block has its bitmap and pages behind its header.", RAM,
	  "copy the file whole, to the same offset" },
	{ LINT_RAM_OUTSIDE, "ram-outside", "A page lies inside of its block.", RAM,
	  "the block grew or shrank meanwhile, or the address is damaged: QEMU refuses it" },
	{ LINT_RAM_OTHER_BLOCK, "ram-other-block", "A page's block is in the list.", RAM,
	  "do not plug memory in during a migration" },
	{ LINT_RAM_BLOCK_TWICE, "ram-block-twice", "A block is listed once.", RAM,
	  "give devices that have memory an id each (-device ...,id=)" },
	{ FAULT_CHANNEL_MAGIC, "channel-magic", "A channel and each packet begin with 11223344.", CHANNELS,
	  "the packet before it is longer or shorter than it says: look there" },
	{ FAULT_CHANNEL_VERSION, "channel-version", "Channels, packets and what is in them have the known version.",
	  CHANNELS, "use a vfmig that knows it" },
	{ FAULT_CHANNEL_FLAGS, "channel-flags", "A packet has the known flags.", CHANNELS, WRITER },
	{ FAULT_CHANNEL_ID, "channel-id", "A device's packet has an id that ends.", CHANNELS, WRITER },
	{ FAULT_CHANNEL_SIZE, "channel-size", "A device's packet has 12 bytes or more.", CHANNELS, WRITER },
	{ LINT_INDEX_TWICE, "index-twice", "An index is used once.", CHANNELS,
	  "count a device's packets over all channels" },
	{ LINT_CONFIG_NOT_LAST, "config-not-last", "The packet with the config record has a device's highest index.",
	  CHANNELS, "send it last" },
	{ LINT_MACHINE_VERSION, "machine-version", "The destination's machine has the stream's version.", QEMU_MACHINE,
	  "start the destination with -machine and the stream's name" },
	{ LINT_MACHINE, "machine", "The destination is the stream's machine.", QEMU_MACHINE,
	  "start the destination with -machine and the stream's name; another kind cannot take this stream" },
};

const size_t lint_num_rules = sizeof(lint_rules) / sizeof(lint_rules[0]);

const struct lint_rule *lint_rule(unsigned int number)
{
	for (size_t i = 0; i < lint_num_rules; i++) {
		if (lint_rules[i].number == number)
			return &lint_rules[i];
	}
	return NULL;
}

void lint_print_rules(bool json)
{
	for (size_t i = 0; i < lint_num_rules; i++) {
		const struct lint_rule *r = &lint_rules[i];
		if (!json) {
			printf("%2u %-20s %s\n   %-20s %s: %s\n", r->number, r->name, r->sentence, "", r->reference,
			       r->fix);
			continue;
		}
		struct json_object *o = json_object_new_object();
		json_object_object_add(o, "rule", json_object_new_uint64(r->number));
		json_object_object_add(o, "name", output_string(r->name));
		json_object_object_add(o, "sentence", output_string(r->sentence));
		json_object_object_add(o, "reference", output_string(r->reference));
		json_object_object_add(o, "fix", output_string(r->fix));
		output_json(stdout, o, false);
	}
}
