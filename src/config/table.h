/* The option table's types, and what its readers share. Private to config/. */
#ifndef HUSK_CONFIG_TABLE_H
#define HUSK_CONFIG_TABLE_H

#include "base/error.h"
#include "config/config.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum option_type {
    OPTION_FLAG,      /* bool; the option or key alone, without a value */
    OPTION_COUNT,     /* uint32_t; how often the option is given, without a value */
    OPTION_BOOL,      /* bool; on, off, true, false */
    OPTION_SWITCH,    /* enum switch_state; as OPTION_BOOL, unset if not given */
    OPTION_U32,       /* uint32_t, decimal */
    OPTION_NUMBER,    /* uint64_t, decimal */
    OPTION_PORT,      /* uint16_t, hexadecimal with 0x */
    OPTION_FD,        /* int, decimal; -1 stands for not given */
    OPTION_FDS,       /* struct fd_list; a number, or several in brackets */
    OPTION_SIZE,      /* uint64_t bytes, with K, M, G or T */
    OPTION_ENUM,      /* int, one of names */
    OPTION_STRING,    /* char *, at most max bytes, may be empty only if min is 0 */
    OPTION_STRINGS,   /* struct string_list; each as OPTION_STRING */
    OPTION_MODE,      /* enum console_mode; the key alone sets it to initial */
    OPTION_MODE_PATH, /* struct console_config; key=PATH sets mode to initial, and the path */
    OPTION_TOPOLOGY,  /* struct cpu_topology; threads:cores:dies:packages */
    OPTION_AFFINITY,  /* the affinity of struct cpus_config; [vcpu@[host CPUs],...] */
    OPTION_ITEMS,     /* a list; [item:item:...], each with the keys of another option */
};

struct option;

struct option_name {
    const char *text; /* on the command line */
    const char *json;
};

struct option_key {
    const char *name; /* NULL: the option's value has no keys */
    const char *json; /* NULL: as name. For a mode: the mode's name */
    enum option_type type;
    bool alias;    /* an older name of another key; not written */
    size_t offset; /* in struct vm_config, or struct config_request */
    uint64_t initial, min, max;
    const struct option_name
        *names;                 /* of OPTION_ENUM, in the order of their numbers, ends with NULL */
    const struct option *items; /* of OPTION_ITEMS: its list and its items' keys */
    const char *value;          /* what help shows for the value */
    const char *shown_default;  /* what help shows where initial does not say it */
    const char *help;
};

enum option_topic {
    OPTION_TOPIC_BOOT,
    OPTION_TOPIC_MACHINE,
    OPTION_TOPIC_CONSOLES,
    OPTION_TOPIC_BEHAVIOUR,
    OPTION_TOPIC_MONITORING,
    OPTION_TOPIC_SANDBOX,
    OPTION_TOPIC_CONFIG,
    OPTION_TOPICS,
};

/* One option. Its keys are stored in struct vm_config unless it is a request. */
struct option {
    const char *name; /* without the dashes; NULL if there is only a letter */
    char letter;      /* 0: none */
    enum option_topic topic;
    bool request;
    const char *json; /* the object its keys are in; NULL: the top level. Not for requests */
    const struct option_key *keys;
    size_t n_keys;
    /* An option that may be given several times, each time adding to a list: where in the struct the list and its
     * length are, and how large one item is. The keys' offsets are in the item, and @json names an array. */
    bool list;
    size_t list_offset, length_offset, item_size;
    size_t list_max;                   /* items; 0: as many as a PCI bus has room for */
    const char *const *keys_not_built; /* Cloud Hypervisor's, closed by NULL; or NULL */
    bool needs_key;                    /* at least one key must be given */
    const char *value;         /* what help shows behind the name, where there are no keys */
    const char *shown_default; /* what help shows where the key's initial value does not say it */
    const char *help;
};

extern const struct option option_table[];
extern const size_t option_table_len;
extern const char *const option_topic_titles[OPTION_TOPICS];

/* Cloud Hypervisor's options that husk does not have, closed by NULL: told apart from mistyped ones. */
extern const char *const options_not_built[];

/** option_n_items() - how many items @base has of @option: 1, but for a list. */
static inline size_t option_n_items(const void *base, const struct option *option)
{
    return option->list ? *(const size_t *)((const char *)base + option->length_offset) : 1;
}

/** option_item() - what the offsets of @option's keys count from: item @index of a list, or @base itself. */
static inline void *option_item(const void *base, const struct option *option, size_t index)
{
    if (!option->list)
        return (void *)base;
    return *(char *const *)((const char *)base + option->list_offset) + index * option->item_size;
}

/** option_takes_value() - false for those that are given alone. */
static inline bool option_takes_value(const struct option *option)
{
    return option->keys[0].name ||
           (option->keys[0].type != OPTION_FLAG && option->keys[0].type != OPTION_COUNT);
}

/** option_key_json() - the name of @key's field in JSON. */
static inline const char *option_key_json(const struct option_key *key)
{
    return key->json ? key->json : key->name;
}

/** option_is_mode() - whether @key chooses where a console's output goes. */
static inline bool option_is_mode(const struct option_key *key)
{
    return key->type == OPTION_MODE || key->type == OPTION_MODE_PATH;
}

/* help.c: what help and the manual page say alike. */

struct option_words {
    char text[128];
};

/** option_usage() - "--memory <key>=<value>,..." */
struct option_words option_usage(const struct option *option);

/** option_key_usage() - "size=<size>" */
struct option_words option_key_usage(const struct option_key *key);

/** option_default() - the default of @option, empty if there is nothing to say. */
struct option_words option_default(const struct option *option);

/** option_key_default() - the default of @key. */
struct option_words option_key_default(const struct option_key *key);

/* Some text of the user's, cut to what fits in a message. */
struct option_excerpt {
    char text[84];
};

/** option_excerpt() - the start of @text (@len bytes), control characters replaced. */
struct option_excerpt option_excerpt(const char *text, size_t len);

/** option_nearest() - the best of @n candidates for a mistyped @word, NULL if none is near. */
const char *option_nearest(const char *word, const char *const *candidates, size_t n);

/* values.c: into and out of the struct, for command line and JSON alike. @base is the struct vm_config or struct
 * config_request. Each returns 0 or -errno and leaves the message without the option's name. */

/** option_reset() - put the defaults of @option in place, freeing what was there. */
void option_reset(void *base, const struct option *option);

/** option_add_item() - one more item of a list, with its defaults; NULL with @err filled. */
void *option_add_item(void *base, const struct option *option, struct error *err);

/** option_reset_key() - the same for one key; for a mode, choose that mode. */
void option_reset_key(void *base, const struct option_key *key);

/** option_check_number() - whether @value is in the limits of @key; the message says which they are. */
int option_check_number(const struct option_key *key, uint64_t value, struct error *err);

/** option_set_number() - for FLAG, COUNT, BOOL, U32, PORT, FD, SIZE and ENUM, after option_check_number(). */
int option_set_number(void *base, const struct option_key *key, uint64_t value, struct error *err);

/** option_get_number() - what option_set_number() stored. */
uint64_t option_get_number(const void *base, const struct option_key *key);

/** option_set_string() - for STRING and MODE_PATH: copies @len bytes, which must be UTF-8 without NUL. */
int option_set_string(void *base, const struct option_key *key, const char *text, size_t len,
                      struct error *err);

/** option_add_string() - for STRINGS. */
int option_add_string(void *base, const struct option_key *key, const char *text, size_t len,
                      struct error *err);

/** option_add_fd() - for FDS; the number is checked. */
int option_add_fd(void *base, const struct option_key *key, uint64_t fd, struct error *err);

/** option_set_topology() - four numbers, each 1 to 254. */
int option_set_topology(void *base, const struct option_key *key, const uint64_t parts[4],
                        struct error *err);

/**
 * option_add_affinity() - let @vcpu run on no host CPU yet.
 *
 * Return: where to add host CPUs with option_add_host_cpus(); NULL with @err filled.
 */
struct cpu_affinity *option_add_affinity(void *base, const struct option_key *key, uint64_t vcpu,
                                         struct error *err);

/** option_add_host_cpus() - and the host CPUs from @first to @last. */
int option_add_host_cpus(struct cpu_affinity *affinity, uint64_t first, uint64_t last,
                         struct error *err);

/* validate_disks.c */

/** config_validate_disks() - the rules of each --disk. 0 or -errno. */
int config_validate_disks(const struct vm_config *config, struct error *err);

/** config_check_rate() - the keys of one rate limit, which begin with @name, go together. 0 or -EINVAL. */
int config_check_rate(const struct rate_limit_config *rate, const char *name, struct error *err);

/* validate_net.c */

/** config_validate_nets() - the rules of each --net; gives a MAC address to those without. 0 or -errno. */
int config_validate_nets(struct vm_config *config, struct error *err);

/* validate_fs.c */

/** config_validate_filesystems() - the rules of each --fs. 0 or -errno. */
int config_validate_filesystems(const struct vm_config *config, struct error *err);

/* validate_snp.c */

/** config_validate_snp() - the options of an SEV-SNP guest. 0 or -errno. */
int config_validate_snp(const struct vm_config *config, struct error *err);

/* validate_ids.c */

/** config_validate_ids() - ids are unlike each other; those that were not given are made. 0 or -errno. */
int config_validate_ids(struct vm_config *config, struct error *err);

/* split.c: the grammar of one option's value. */

struct option_text {
    const char *start;
    size_t len;
};

/** option_check_balance() - whether brackets and quotes of @text close. */
int option_check_balance(struct option_text text, struct error *err);

/**
 * option_next_part() - cut the next part off *@rest, up to a comma outside brackets and quotes.
 *
 * Return: false if nothing was left. A part may be empty.
 */
bool option_next_part(struct option_text *rest, struct option_text *part);

/** option_next_item() - the same, up to a colon. */
bool option_next_item(struct option_text *rest, struct option_text *part);

/** option_trim() - without the white space around it. */
struct option_text option_trim(struct option_text text);

/** option_unbracket() - without the brackets around it, if there are any. Returns whether there were. */
bool option_unbracket(struct option_text *text);

/** option_dequote() - a copy without quotes, to be freed; NULL if memory ran out. */
char *option_dequote(struct option_text text);

/** option_parse_value() - read @text into the key of @base. */
int option_parse_value(void *base, const struct option_key *key, struct option_text text,
                       struct error *err);

#endif
