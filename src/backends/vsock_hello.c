#include "backends/vsock_hello.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#define SPACE " \t\n\v\f\r"
#define COMMAND "connect"

/** parse_port() - a word: a number, which may have a plus. Returns 1 or -EPROTO. */
static int parse_port(const char *word, uint32_t *port)
{
    const char *behind = word + strcspn(word, SPACE);
    char *end;
    word += *word == '+';
    unsigned long long value = strtoull(word, &end, 10);
    if (!isdigit((unsigned char)*word) || end != behind || value > UINT32_MAX)
        return -EPROTO;
    *port = (uint32_t)value;
    return 1;
}

/** parse() - the first two words; what is behind them says nothing. Returns 1 or -EPROTO. */
static int parse(const struct vsock_hello *hello, uint32_t *port)
{
    const char *word = hello->line + strspn(hello->line, SPACE);
    size_t len = strcspn(word, SPACE);
    if (strlen(hello->line) != hello->len || len != strlen(COMMAND) ||
        strncasecmp(word, COMMAND, len) != 0)
        return -EPROTO;
    word += len;
    return parse_port(word + strspn(word, SPACE), port);
}

int vsock_hello_read(struct vsock_hello *hello, int fd, uint32_t *port)
{
    char *at = hello->line + hello->len;
    ssize_t n = recv(fd, at, VSOCK_HELLO_BYTES - hello->len, MSG_PEEK | MSG_DONTWAIT);
    if (n <= 0)
        return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -EPROTO;
    const char *end = memchr(at, '\n', (size_t)n);
    size_t len = end ? (size_t)(end - at) + 1 : (size_t)n;
    /* What stayed in the socket would be told of again and again. */
    if (recv(fd, at, len, MSG_DONTWAIT) != (ssize_t)len)
        return -EPROTO;
    hello->len += (unsigned)len;
    hello->line[hello->len] = '\0';
    if (end)
        return parse(hello, port);
    return hello->len < VSOCK_HELLO_BYTES ? 0 : -EPROTO;
}
