/* SPDX-License-Identifier: BSD-3-Clause */
/* cmd_complete.c: vfmig complete WORD...: what the last word of a command line may become, for the shells' completion.
 *
 * Prints a candidate a line, a tab and what it is. It knows no option: it reads what --help prints, and takes the
 * placeholders there ("file:PATH", "v1|v2") for what may follow. */
#include <ctype.h>
#include <fcntl.h>
#include <glob.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "command.h"
#include "device/device.h"
#include "link/link.h"
#include "read_text.h"

/* The word that is completed; what is before it on the same word ("--output=") is printed with each candidate. */
struct word {
	const char *before, *text;
	size_t before_length;
};

static void offer(const struct word *w, const char *candidate, size_t length, const char *what)
{
	if (length && !strncmp(candidate, w->text, strnlen(w->text, length)) && strlen(w->text) <= length)
		printf("%.*s%.*s\t%s\n", (int)w->before_length, w->before, (int)length, candidate, what);
}

/* What `vfmig FIRST SECOND` prints, its long lines in one piece; to be freed, NULL: nothing. second may be NULL. */
static char *ask(const char *first, const char *second)
{
	int fds[2];
	char *out = NULL;
	size_t size = 0;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return NULL;
	pid_t pid = fork();
	if (pid == 0) {
		setenv("ARGP_HELP_FMT", "rmargin=10000", 1);
		dup2(fds[1], STDOUT_FILENO);
		execl("/proc/self/exe", "vfmig", first, second, (char *)NULL);
		_exit(EXIT_FAILED);
	}
	close(fds[1]);
	FILE *from = fdopen(fds[0], "r");
	if (pid < 0 || !from || getdelim(&out, &size, '\0', from) < 0) {
		free(out);
		out = NULL;
	}
	if (from)
		fclose(from);
	if (pid > 0)
		waitpid(pid, NULL, 0);
	return out;
}

static bool is_text(const char *s)
{
	size_t n = 1;

	for (; *s && n; s += n)
		n = text_character(s);
	return n > 0;
}

/* Files whose names begin as the word does behind `fixed`, or folders only; none that a terminal would take for more
 * than a name, or a shell for two. */
static void offer_files(const struct word *w, size_t fixed, bool folders)
{
	glob_t found;
	char *pattern, *candidate;

	if (asprintf(&pattern, "%s*", w->text + fixed) < 0)
		return;
	if (glob(pattern, GLOB_MARK | (folders ? GLOB_ONLYDIR : 0), NULL, &found) == 0) {
		for (size_t i = 0; i < found.gl_pathc; i++) {
			if (!is_text(found.gl_pathv[i]))
				continue;
			if (asprintf(&candidate, "%.*s%s", (int)fixed, w->text, found.gl_pathv[i]) < 0)
				break;
			offer(w, candidate, strlen(candidate), "");
			free(candidate);
		}
		globfree(&found);
	}
	free(pattern);
}

/* "file:PATH", "v1", "MS": up to the first capital letter as it is, then what that word stands for. */
static void offer_usage(const struct word *w, const char *usage, size_t length)
{
	size_t fixed = 0;

	while (fixed < length && !isupper((unsigned char)usage[fixed]))
		fixed++;
	const char *rest = usage + fixed;
	bool files = !strncmp(rest, "PATH", 4) || !strncmp(rest, "FILE", 4) ||
		     (fixed && rest[-1] == '/' && !strncmp(rest, "NAME", 4));
	bool folders = !strncmp(rest, "DIR", 3);
	if (!strncmp(rest, "PATH", 4) && fixed && rest[-1] == '/')
		fixed--; /* relative ones are meant as well */
	if ((files || folders) && !strncmp(w->text, usage, fixed))
		offer_files(w, fixed, folders);
	else
		offer(w, usage, fixed, fixed < length ? usage : "");
}

static void offer_devices(const struct word *w)
{
	char *text = ask("devices", "--json");
	struct json_object *all = text ? json_tokener_parse(text) : NULL, *list, *uri, *name;

	if (json_object_object_get_ex(all, "devices", &list))
		for (size_t i = 0; i < json_object_array_length(list); i++) {
			struct json_object *device = json_object_array_get_idx(list, i);
			if (!json_object_object_get_ex(device, "uri", &uri))
				continue;
			json_object_object_get_ex(device, "name", &name);
			offer(w, json_object_get_string(uri), (size_t)json_object_get_string_len(uri),
			      name ? json_object_get_string(name) : "");
		}
	json_object_put(all);
	free(text);
}

/* A placeholder, or several with '|' between them, in brackets or not. */
static void offer_placeholder(const struct word *w, const char *text)
{
	const char *usage;

	for (text += strspn(text, "["); *text; text += strspn(text, "|")) {
		size_t length = strcspn(text, "|]");
		if (!strncmp(text, "URI", 3)) {
			offer_usage(w, "sim:OPTIONS", strlen("sim:OPTIONS"));
			for (size_t i = 0; (usage = device_usage(i)); i++)
				offer_usage(w, usage, strlen(usage));
			offer_devices(w);
		} else if (!strncmp(text, "LINK", 4)) {
			for (size_t i = 0; (usage = link_usage(i)); i++)
				offer_usage(w, usage, strlen(usage));
		} else {
			offer_usage(w, text, length);
		}
		text += length + strspn(text + length, "].");
	}
}

/* A line of --help: "  -o, --output=LINK   Where the stream goes". */
struct option_line {
	char letter;	   /* 0: none */
	const char *name;  /* with its dashes */
	const char *value; /* what stands for its value, NULL: it has none */
	const char *text;
};

/* Cuts the line up; false: it is of another kind. */
static bool read_option(char *line, struct option_line *ret)
{
	char *p = line + strspn(line, " ");

	*ret = (struct option_line) { 0 };
	if (p[0] == '-' && p[1] && p[1] != '-') {
		ret->letter = p[1];
		p += strcspn(p, " ");
		p += strspn(p, " ");
	}
	if (strncmp(p, "--", 2) || p == line)
		return false;
	ret->name = p;
	p += strcspn(p, "= ");
	if (*p == '=') {
		*p++ = '\0';
		ret->value = p;
		p += strcspn(p, " ");
	}
	if (*p)
		*p++ = '\0';
	ret->text = p + strspn(p, " ");
	return true;
}

/* The value that the option in `word` ("-o", "--output") takes, as help has it; NULL: none, or another kind of word. */
static char *value_of(const char *help, const char *word, size_t length)
{
	char *copy = strdup(help), *save = NULL, *found = NULL;
	struct option_line o;

	for (char *line = copy ? strtok_r(copy, "\n", &save) : NULL; line && !found; line = strtok_r(NULL, "\n", &save))
		if (read_option(line, &o) && o.value &&
		    ((length == 2 && word[0] == '-' && word[1] == o.letter) ||
		     (strlen(o.name) == length && !strncmp(o.name, word, length))))
			found = strdup(o.value);
	free(copy);
	return found;
}

static void offer_options(const struct word *w, char *help)
{
	char *save = NULL;
	struct option_line o;

	for (char *line = strtok_r(help, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		if (read_option(line, &o))
			offer(w, o.name, strlen(o.name), o.text);
}

/* "Usage: vfmig resolve [OPTION...] SESSION [source|destination] --journal DIR": the argument of that number. */
static void offer_argument(const struct word *w, char *help, int number)
{
	char *save = NULL, *last = NULL;
	char *p = strstr(help, "[OPTION...] ");

	help[strcspn(help, "\n")] = '\0';
	for (p = p ? strtok_r(p + strlen("[OPTION...] "), " ", &save) : NULL; p; p = strtok_r(NULL, " ", &save)) {
		if (*p == '-')
			break;
		if (!strcmp(p, "[--]"))
			continue;
		last = p;
		if (number-- == 0)
			break;
	}
	if (last && (number < 0 || strstr(last, "...")))
		offer_placeholder(w, last);
}

static void offer_commands(const struct word *w)
{
	char *help = ask("--help", NULL), *save = NULL;

	for (char *line = help ? strtok_r(help, "\n", &save) : NULL; line; line = strtok_r(NULL, "\n", &save)) {
		size_t length = strspn(line + strspn(line, " "), "abcdefghijklmnopqrstuvwxyz");
		if (!strncmp(line, "  ", 2) && length && line[2 + length] == ' ')
			offer(w, line + 2, length, line + 2 + length + strspn(line + 2 + length, " "));
	}
	free(help);
	offer(w, "--help", strlen("--help"), "the commands");
	offer(w, "--version", strlen("--version"), "the version");
}

/* words[0] is the command, words[count - 1] the word that is completed. */
static void complete(char **words, int count)
{
	const char *last = words[count - 1], *equals = strchr(last, '=');
	struct word w = { .before = "", .text = last };
	char *help = ask(words[0], "--help"), *value = NULL; /* what the next word has to be */
	int arguments = 0;

	for (int i = 1; help && i < count - 1; i++) {
		if (!value && *words[i] == '-') {
			value = value_of(help, words[i], strlen(words[i]));
			continue;
		}
		arguments += !value;
		free(value);
		value = NULL;
	}
	if (help && !value && !strncmp(last, "--", 2) && equals) {
		w = (struct word) { .before = last, .before_length = (size_t)(equals - last) + 1, .text = equals + 1 };
		value = value_of(help, last, (size_t)(equals - last));
	}
	if (value)
		offer_placeholder(&w, value);
	else if (help && *last == '-')
		offer_options(&w, help);
	else if (help)
		offer_argument(&w, help, arguments);
	free(value);
	free(help);
}

int cmd_complete(int argc, char **argv)
{
	struct word command = { .before = "", .text = argc > 1 ? argv[1] : "" };

	if (argc <= 2)
		offer_commands(&command);
	else
		complete(argv + 1, argc - 1);
	return EXIT_OK;
}
