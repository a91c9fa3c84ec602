#include "devices/terminal.h"

#include "base/bytes.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

/* What was made raw: at most one, and signal handlers must reach it. */
static struct termios saved_termios;
static volatile sig_atomic_t termios_saved;
static pid_t group; /* of this process */

void terminal_restore(void)
{
    if (!termios_saved)
        return;
    termios_saved = 0;
    /* In the background, changing the terminal would stop us; blocked, the signal is not sent. */
    sigset_t ttou, old;
    sigemptyset(&ttou);
    sigaddset(&ttou, SIGTTOU);
    pthread_sigmask(SIG_BLOCK, &ttou, &old);
    tcsetattr(STDIN_FILENO, TCSANOW, &saved_termios);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

/** on_fatal() - restore the terminal, then die of the signal as if it had not been caught. */
static void on_fatal(int signal)
{
    terminal_restore();
    raise(signal);
}

static void make_raw(void)
{
    struct termios raw = saved_termios;
    cfmakeraw(&raw);
    termios_saved = 1;
    tcsetattr(STDIN_FILENO, TCSANOW, &raw);
}

bool terminal_take(void)
{
    /* All that end a process which does nothing about them (signal(7)), but SIGKILL and those that vmm/run.c takes. */
    static const int fatal[] = {
        SIGSEGV, SIGBUS,  SIGFPE,  SIGILL,  SIGABRT, SIGQUIT,   SIGSYS,    SIGTRAP, SIGUSR1,
        SIGUSR2, SIGALRM, SIGXCPU, SIGXFSZ, SIGPROF, SIGVTALRM, SIGSTKFLT, SIGIO,   SIGPWR,
    };
    if (termios_saved || tcgetattr(STDIN_FILENO, &saved_termios) < 0)
        return false;
    struct sigaction before, action = {.sa_handler = on_fatal, .sa_flags = (int)SA_RESETHAND};
    for (size_t i = 0; i < ARRAY_SIZE(fatal); i++)
        if (sigaction(fatal[i], NULL, &before) == 0 && before.sa_handler == SIG_DFL)
            sigaction(fatal[i], &action, NULL);
    group = getpgrp();
    make_raw();
    return true;
}

int terminal_signals(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTSTP);
    sigaddset(&set, SIGCONT);
    int code = pthread_sigmask(SIG_BLOCK, &set, NULL);
    int fd = code ? -1 : signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return fd < 0 ? (code ? -code : -errno) : fd;
}

/** stop() - until somebody sends SIGCONT; the kernel stops nobody whom no shell could let go on. */
static void stop(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTSTP);
    terminal_restore();
    raise(SIGTSTP);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
}

void terminal_on_signal(int fd)
{
    struct signalfd_siginfo info;
    if (read(fd, &info, sizeof(info)) != (ssize_t)sizeof(info))
        return;
    if (info.ssi_signo == SIGTSTP)
        stop();
    /* -1: not our controlling terminal, so no job control on it either. */
    pid_t foreground = tcgetpgrp(STDIN_FILENO);
    if (foreground >= 0 && foreground != group)
        return;
    make_raw();
    raise(SIGWINCH); /* which only the foreground is told of */
}
