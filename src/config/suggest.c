/* What was probably meant: the nearest candidate, and excerpts of what was typed for messages. */
#include "config/table.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#define WORD_MAX 40

/* The distances for this letter, and for the two before it. */
struct distance_rows {
    unsigned row[3][WORD_MAX + 1];
};

static unsigned min3(unsigned a, unsigned b, unsigned c)
{
    unsigned least = a < b ? a : b;
    return least < c ? least : c;
}

static int same(char a, char b)
{
    return tolower((unsigned char)a) == tolower((unsigned char)b);
}

/** edit_distance() - letters to insert, remove, change or swap with their neighbour to get from @a to @b. */
static unsigned edit_distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
    struct distance_rows rows = {0};
    unsigned *before = rows.row[0], *above = rows.row[1], *row = rows.row[2];
    for (size_t j = 0; j <= b_len; j++)
        above[j] = (unsigned)j;
    for (size_t i = 1; i <= a_len; i++) {
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= b_len; j++) {
            unsigned change = same(a[i - 1], b[j - 1]) ? 0 : 1;
            row[j] = min3(above[j] + 1, row[j - 1] + 1, above[j - 1] + change);
            if (i > 1 && j > 1 && same(a[i - 1], b[j - 2]) && same(a[i - 2], b[j - 1]) &&
                before[j - 2] + 1 < row[j])
                row[j] = before[j - 2] + 1;
        }
        unsigned *oldest = before;
        before = above;
        above = row;
        row = oldest;
    }
    return above[b_len];
}

const char *option_nearest(const char *word, const char *const *candidates, size_t n)
{
    size_t len = strlen(word);
    if (len == 0 || len > WORD_MAX)
        return NULL;
    const char *best = NULL;
    unsigned best_distance = 0;
    for (size_t i = 0; i < n; i++) {
        size_t candidate_len = strlen(candidates[i]);
        if (candidate_len > WORD_MAX)
            continue;
        unsigned distance = edit_distance(word, len, candidates[i], candidate_len);
        /* A word cut short, or a part of one, is near whatever its distance: "mem" means "memory". */
        if (len >= 3 && strstr(candidates[i], word) && distance > 2)
            distance = 2;
        size_t shorter = len < candidate_len ? len : candidate_len;
        unsigned near = shorter < 3 ? 1 : 1 + (unsigned)shorter / 3;
        if (distance <= near && (!best || distance < best_distance)) {
            best = candidates[i];
            best_distance = distance;
        }
    }
    return best;
}

struct option_excerpt option_excerpt(const char *text, size_t len)
{
    struct option_excerpt excerpt;
    size_t room = sizeof(excerpt.text) - sizeof("...");
    size_t used = len < room ? len : room;
    for (size_t i = 0; i < used; i++) {
        char c = text[i];
        excerpt.text[i] = (char)((c >= 0 && c < 0x20) || c == 0x7f ? '?' : c);
    }
    snprintf(excerpt.text + used, sizeof(excerpt.text) - used, "%s", used < len ? "..." : "");
    return excerpt;
}
