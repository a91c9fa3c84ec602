#include "sandbox/roles_internal.h"

const struct cage_role_of cage_roles[CAGE_ROLES] = {
    [CAGE_VMM] =
        {
            .name = "vmm",
            .process = "the VMM",
            .opens = "nothing",
            .holds =
                "/dev/kvm and the VM, guest RAM, the files that the guest starts from, consoles, "
                "events, the log, a connection to the broker and to each back-end, a second one to "
                "the console's",
            .lists = {&calls_process, &calls_threads, &calls_messages, &calls_events,
                      &calls_machine_at_work, &calls_machine, &calls_consoles, &calls_of_broker,
                      &calls_converting, &calls_private_memory, &calls_snp, &calls_certificates},
        },
    [CAGE_VCPU] =
        {
            .name = "vcpu",
            .process = "a vCPU's thread",
            .opens = "nothing",
            .holds = "what the VMM holds",
            .lists = {&calls_process, &calls_messages, &calls_machine_at_work, &calls_vcpu,
                      &calls_converting, &calls_certificates},
        },
    [CAGE_BROKER] =
        {
            .name = "broker",
            .process = "the broker",
            .opens = "what the command line named for devices; connections to UNIX sockets where a "
                     "device needs one; "
                     "libraries, to read; husk-backend, to execute",
            .holds = "the VMM's socket, taps, its ends of the console's sockets, sockets that host "
                     "programs connect to, the log",
            .lists = {&calls_process, &calls_threads, &calls_messages, &calls_events,
                      &calls_brokering, &calls_program, &calls_opening, &calls_opening_disk,
                      &calls_opening_tap, &calls_opening_streams, &calls_back_end, &calls_disk,
                      &calls_tap, &calls_console, &calls_streams, &calls_connecting},
        },
    [CAGE_BLK] =
        {
            .name = "blk",
            .process = "a disk's back-end",
            .opens = "nothing",
            .holds = "its front-end's socket, guest RAM, the disk, the log",
            .has = CAGE_DISKS,
            .lists = {&calls_process, &calls_threads, &calls_messages, &calls_events,
                      &calls_back_end, &calls_disk, &calls_listening},
        },
    [CAGE_RNG] =
        {
            .name = "rng",
            .process = "an entropy device's back-end",
            .opens = "nothing",
            .holds = "its front-end's socket, guest RAM, the source, the log",
            .lists = {&calls_process, &calls_threads, &calls_messages, &calls_events,
                      &calls_back_end, &calls_listening},
        },
    [CAGE_NET] =
        {
            .name = "net",
            .process = "a network interface's back-end",
            .opens = "nothing",
            .holds = "its front-end's socket, guest RAM, its tap's queues, the log",
            .has = CAGE_TAPS,
            .lists = {&calls_process, &calls_threads, &calls_messages, &calls_events,
                      &calls_back_end, &calls_tap, &calls_listening},
        },
    [CAGE_CONSOLE] =
        {
            .name = "console",
            .process = "a console's back-end",
            .opens = "nothing",
            .holds = "its front-end's socket, guest RAM, a socket of the VMM's or its own "
                     "terminal, the log",
            .has = CAGE_CONSOLES,
            .lists = {&calls_process, &calls_threads, &calls_messages, &calls_events,
                      &calls_back_end, &calls_console, &calls_listening},
        },
    [CAGE_VSOCK] =
        {
            .name = "vsock",
            .process = "a socket device's back-end",
            .opens = "nothing; its connector is asked for connections to host programs",
            .holds = "its front-end's socket, guest RAM, the socket that host programs connect to, "
                     "their connections, its connector's socket, the log",
            .has = CAGE_STREAMS,
            .lists = {&calls_process, &calls_threads, &calls_messages, &calls_events,
                      &calls_back_end, &calls_streams, &calls_listening},
        },
    [CAGE_CONNECTOR] =
        {
            .name = "connector",
            .process = "a socket device's connector",
            .opens = "connections to UNIX sockets",
            .holds = "the back-end's socket, the log",
            .lists = {&calls_process, &calls_messages, &calls_connecting},
        },
};

size_t cage_calls(enum cage_role role, unsigned extra, struct call_list *lists)
{
    size_t n = 0;
    for (const struct cage_list *const *list = cage_roles[role].lists; *list; list++)
        if (((*list)->extra & ~(extra | cage_roles[role].has)) == 0)
            lists[n++] = (*list)->calls;
    return n;
}
