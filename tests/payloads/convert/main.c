/*
 * A guest of a software-protected VM. It converts pages, 2 MiB and 1 GiB in RAM below and above 4 GiB by KVM_HC_MAP_GPA_RANGE,
 * and sees each time that what it had written is still there before and gone after. Between, a disk reads and writes
 * shared pages. The command line says how often each: "4K=100000 2M=1000 1G=20"; "hole" asks for a page where no memory is.
 * It waits for a byte on the serial port before it begins, and for another before it switches off.
 */
#include "guest.h"

#define LOW 0x4000000ull    /* 64 MiB: above what the loader wrote */
#define HIGH 0x100000000ull /* 4 GiB */
#define POOL 0x4000000ull   /* bytes of each that are converted in small pieces */
#define MIB2 0x200000ull
#define GIB 0x40000000ull
#define DISK_EVERY 500
#define DISK_PAGES 16

/* What each page holds: 0 private and never written, else its number of conversions; odd: shared. */
static uint16_t turns[2 * POOL / PAGE] __attribute__((section(".data")));
static uint64_t disk_moves, disk_left[DISK_PAGES];
static bool have_disk;

void say(const char *text, uint64_t number)
{
    char digits[20];
    int n = 0;
    for (; *text; text++)
        out8(0x3f8, (uint8_t)*text);
    do
        digits[n++] = (char)('0' + number % 10);
    while (number /= 10);
    while (n)
        out8(0x3f8, (uint8_t)digits[--n]);
    out8(0x3f8, '\n');
}

static void __attribute__((noreturn)) power_off(void)
{
    out8(0x600, 0x34);
    for (;;)
        __asm__ volatile("hlt");
}

void fail(const char *what, uint64_t where)
{
    say("FAILED: ", where);
    say(what, 0);
    power_off();
}

static void wait_for_byte(void)
{
    while (!(in8(0x3fd) & 1))
        __asm__ volatile("pause");
    in8(0x3f8);
}

/** map_gpa_range() - KVM_HC_MAP_GPA_RANGE. Returns what KVM answers, 0 or -errno. */
static int64_t map_gpa_range(uint64_t gpa, uint64_t pages, bool private)
{
    int64_t answer;
    __asm__ volatile("vmmcall"
                     : "=a"(answer)
                     : "a"(12ull), "b"(gpa), "c"(pages), "d"(private ? 0x10ull : 0ull)
                     : "memory");
    return answer;
}

static void convert(uint64_t gpa, uint64_t len, bool private)
{
    if (map_gpa_range(gpa, len / PAGE, private) != 0)
        fail("a conversion was refused", gpa);
}

static volatile uint64_t *word(uint64_t gpa)
{
    return (volatile uint64_t *)gpa;
}

static uint64_t mark(uint64_t gpa, uint64_t turn)
{
    return gpa | (turn & 0xfff);
}

/** check_page() - that a page at both ends holds what turn @turn wrote. */
static void check_page(uint64_t gpa, uint16_t turn)
{
    uint64_t want = turn ? mark(gpa, turn) : 0;
    if (*word(gpa) != want || *word(gpa + PAGE - 8) != want)
        fail("a page lost what was written", gpa);
}

/** turn_page() - after the conversion: what was in the other half must not be seen; write anew. */
static void turn_page(uint64_t gpa, uint16_t turn)
{
    if (*word(gpa) != 0 || *word(gpa + PAGE - 8) != 0)
        fail("a page kept what the other half had", gpa);
    *word(gpa) = *word(gpa + PAGE - 8) = mark(gpa, turn);
}

/** gpa_of() - page @page of both pools: half of them are above 4 GiB. */
static uint64_t gpa_of(uint64_t page)
{
    uint64_t half = POOL / PAGE;
    return page < half ? LOW + page * PAGE : HIGH + (page - half) * PAGE;
}

/** use_disk() - write a page of what was written last, read another page of the disk, both in memory made shared. */
static void use_disk(void)
{
    uint64_t page = LOW - MIB2, which = disk_moves % DISK_PAGES;
    if (!have_disk)
        return;
    convert(page, 2 * PAGE, false);
    for (uint64_t at = 0; at < PAGE; at += 8)
        *word(page + at) = ++disk_left[which] * 0x9e3779b97f4a7c15ull + at;
    disk_move(true, which * 8, word(page));
    disk_move(false, which * 8, word(page + PAGE));
    for (uint64_t at = 0; at < PAGE; at += 8)
        if (*word(page + PAGE + at) != *word(page + at))
            fail("the disk does not hold what was written", at);
    convert(page, 2 * PAGE, true);
    disk_moves++;
}

static void convert_pages(uint64_t times)
{
    uint64_t pages = 2 * POOL / PAGE, page = 0;
    for (uint64_t i = 0; i < times; i++) {
        uint64_t gpa = gpa_of(page);
        check_page(gpa, turns[page]);
        convert(gpa, PAGE, turns[page] & 1);
        turn_page(gpa, ++turns[page]);
        page = (page + 9973) % pages;
        if (i % DISK_EVERY == 0)
            use_disk();
    }
    say("4K conversions: ", times);
}

/** holds() - whether 16 pages of a piece hold @want, and give them @next. */
static bool holds(uint64_t gpa, uint64_t len, uint64_t want, uint64_t next)
{
    bool all = true;
    for (uint64_t at = 0; at < len; at += len / 16) {
        all = all && *word(gpa + at) == want && *word(gpa + at + PAGE - 8) == want;
        *word(gpa + at) = *word(gpa + at + PAGE - 8) = next;
    }
    return all;
}

/** convert_pieces() - of @len bytes: @n from LOW + @offset on, and as many from HIGH + @offset on, in turn. */
static void convert_pieces(const char *name, uint64_t times, uint64_t offset, uint64_t len,
                           uint64_t n)
{
    for (uint64_t i = 0; i < times; i++) {
        uint64_t gpa = (i & 1 ? HIGH : LOW) + offset + i / 2 % n * len;
        uint64_t turn = i / (2 * n);
        if (!holds(gpa, len, turn ? mark(gpa, turn) : 0, 7))
            fail("a piece lost what was written", gpa);
        convert(gpa, len, turn & 1);
        if (!holds(gpa, len, 0, mark(gpa, turn + 1)))
            fail("a piece kept what the other half had", gpa);
        if (i % 50 == 0)
            use_disk();
    }
    say(name, times);
}

/** number_after() - the number behind @name in @text, 0 if it is not there. */
static uint64_t number_after(const char *text, const char *name)
{
    for (; *text; text++) {
        const char *at = text;
        uint64_t number = 0;
        for (const char *want = name; *want; want++)
            if (*at++ != *want)
                goto next;
        while (*at >= '0' && *at <= '9')
            number = number * 10 + (uint64_t)(*at++ - '0');
        return number;
    next:;
    }
    return 0;
}

void main(const uint8_t *start_info)
{
    const char *words = (const char *)(uintptr_t) * (const uint64_t *)(start_info + 24);
    have_disk = disk_start();
    say("ready, disks: ", have_disk);
    if (number_after(words, "hole=")) {
        int64_t answer = map_gpa_range(LOW, 0, true);
        say("nothing at all: ", (uint64_t)-answer);
        map_gpa_range(number_after(words, "hole=") * PAGE, 1, true);
        fail("the guest went on", 0);
    }
    wait_for_byte();
    /* What the image of this guest lies in is shared already, and may be asked to be. */
    convert(0x100000, PAGE, false);
    convert_pages(number_after(words, "4K="));
    convert_pieces("2M conversions: ", number_after(words, "2M="), POOL, MIB2, 16);
    convert_pieces("1G conversions: ", number_after(words, "1G="), GIB - LOW, GIB, 1);
    say("disk moves: ", disk_moves);
    say("done ", 0);
    wait_for_byte();
    power_off();
}
