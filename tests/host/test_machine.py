"""Debian's stock kernel on husk: what it finds, how it ends, and what husk says then."""

import signal

import pytest


@pytest.mark.parametrize("cpus, memory, mib", [(1, "256M", 256), (2, "3584M", 3584), (8, "6G", 6144)])
def test_the_guest_has_the_processors_and_memory_it_was_given(debian, cpus, memory, mib):
    machine = debian("husk.poweroff", cpus=cpus, memory=memory)
    machine.expect(r"^Linux .*x86_64")
    kib = int(machine.expect(r"husk-guest: memory (\d+) kB\r*\n")[1])
    # The kernel keeps its image and its page array (1/64 of RAM) out of MemTotal, and where RAM reaches above 4 GiB
    # 64 MiB of bounce buffers.
    kept = mib // 64 + 48 + (64 if mib > 3072 else 0)
    assert mib - kept < kib / 1024 < mib
    assert int(machine.expect(r"husk-guest: cpus (\d+)\r*\n")[1]) == cpus
    machine.event("shutdown")
    machine.ends_with(0)


def test_a_reboot_from_inside_starts_the_machine_again(debian):
    machine = debian("husk.reboot")
    machine.expect(r"husk-guest: reboot")
    machine.event("reset")
    machine.event("rebooted")
    machine.expect(r"^Linux .*x86_64")
    machine.expect(r"husk-guest: reboot")


def test_a_reboot_ends_husk_where_that_was_asked_for(debian):
    machine = debian("husk.reboot", "--no-reboot")
    machine.event("reset")
    machine.ends_with(3)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_presses_the_power_button(debian, number):
    machine = debian("husk.wait")
    machine.expect(r"husk-guest: waiting for the power button")
    machine.press(number)
    machine.event("power-button")
    machine.expect(r"husk-guest: power button pressed")
    machine.event("shutdown")
    machine.ends_with(0)


def test_a_second_signal_ends_husk_whatever_the_guest_does(host, start):
    machine = start("--kernel", f"{host.folder}/spin.elf", "--memory", "size=64M")
    machine.event("booted")
    machine.press(signal.SIGTERM)
    machine.event("power-button")
    machine.press(signal.SIGTERM)
    machine.event("killed")
    machine.ends_with(128 + signal.SIGTERM)


def test_a_kernel_panic_with_panic_minus_one_is_a_reset(debian):
    machine = debian("husk.panic", "--no-reboot")
    machine.expect(r"Kernel panic - not syncing: sysrq triggered crash")
    machine.event("reset")
    machine.ends_with(3)


def test_a_triple_fault_has_its_own_status_and_event(host, start):
    machine = start("--kernel", f"{host.folder}/triplefault.elf", "--memory", "size=64M")
    machine.event("triple-fault")
    machine.ends_with(4)


def test_what_stock_kernels_need_of_a_processor_works(host, start):
    machine = start("--kernel", f"{host.folder}/stockcpu.elf", "--memory", "size=64M")
    machine.event("shutdown")
    machine.ends_with(0)


def test_kill_9_leaves_no_process_and_no_memory_behind(host, debian):
    def free_mib():
        return int(host.run("awk '/MemAvailable/ { print $2 }' /proc/meminfo")[1]) // 1024

    machine = debian("husk.wait", cpus=2, memory="1G,prefault=on")
    machine.expect(r"husk-guest: waiting for the power button")
    during = free_mib()
    machine.press(signal.SIGKILL)
    machine.ends_with(128 + signal.SIGKILL)
    # Its helpers hear of it a moment later.
    host.run("for n in $(seq 1 600); do pidof husk || exit 0; sleep 0.1; done; exit 1")
    assert free_mib() - during > 900
