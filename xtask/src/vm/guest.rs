//! One virtual machine: its process, its console and a shell on its second serial line.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::Child,
    time::Duration,
};

use anyhow::{Context, bail, ensure};

use super::{
    Bench,
    disk::{Cut, Disk},
};
use crate::sh;

const BOOT_TIMEOUT: Duration = Duration::from_secs(60);
/// Software emulation is slow; one command may wait for the network.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(120);
const MEMORY_MIB: &str = "768";
const END: &str = "@@END";

/// The beginning of every guest's `/init`.
pub(crate) const INIT_HEAD: &str = r#"#!/bin/sh
export PATH=/bin
# From the initramfs itself no container could change its root (pivot_root(2)): move into a tmpfs.
if [ "$1" != moved ]; then
    mkdir /new; mount -t tmpfs root /new; cp -a /bin /etc /init /mod /new/
    for d in data dev lib mnt proc root run sys tmp var var/lib; do mkdir -p /new/$d; done
    exec switch_root /new /init moved
fi
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm; mount -t devpts devpts /dev/pts; mount -t tmpfs shm /dev/shm; mount -t tmpfs run /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
while read -r m; do insmod "/mod/$m" || echo "could not load $m"; done < /mod/order
i=0; while [ ! -b /dev/vda ] && [ $i -lt 100 ]; do sleep 0.05; i=$((i+1)); done
mkdir -p /data; mount -t ext4 /dev/vda /data || echo MOUNTFAIL
ip link set lo up
"#;

/// The end of every guest's `/init`: a shell for the test, and no end of process 1. The line is
/// opened once: closing it would throw away what the test has already sent.
pub(crate) const INIT_TAIL: &str = r#"
exec 3<>/dev/ttyS1
stty raw -echo <&3
echo READY >&3
while :; do
    # One line is one command. A shell on the line itself would be interactive: prompts and echo.
    while read -r line <&3; do eval "$line" >&3 2>&1 </dev/null; echo "@@END $?" >&3; done
    sleep 0.1
done
"#;

pub(crate) struct Guest {
    qemu: Child,
    disk: Disk,
    shell: BufReader<UnixStream>,
    pub(crate) console: PathBuf,
}

impl Guest {
    /// Boots; returns when the guest's shell answers.
    pub(crate) fn boot(
        bench: &Bench,
        initramfs: &Path,
        image: &Path,
        name: &str,
    ) -> anyhow::Result<Self> {
        Self::boot_at(bench, initramfs, image, name, None)
    }

    /// Boots with the clock at a date, such as `1970-01-01`.
    pub(crate) fn boot_at(
        bench: &Bench,
        initramfs: &Path,
        image: &Path,
        name: &str,
        date: Option<&str>,
    ) -> anyhow::Result<Self> {
        let console = bench.dir.join(format!("{name}.console"));
        let control = bench.dir.join(format!("{name}.sock"));
        for path in [&console, &control] {
            if path.exists() {
                fs::remove_file(path)?;
            }
        }
        let disk = Disk::serve(image, &bench.dir.join(format!("{name}.nbd")))?;
        let mut command = sh::command("qemu-system-x86_64");
        command.args(["-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", MEMORY_MIB]);
        command.args(["-nodefaults", "-no-reboot", "-display", "none"]);
        command.arg("-kernel").arg(&bench.kernel.image).arg("-initrd").arg(initramfs);
        command
            .args(["-append", "console=ttyS0 quiet panic=1 cgroup_no_v1=all random.trust_cpu=on"]);
        command.arg("-serial").arg(format!("file:{}", console.display()));
        command.arg("-serial").arg(format!("unix:{},server=on,wait=off", control.display()));
        command.arg("-drive").arg(format!(
            "file=nbd:unix:{},format=raw,if=virtio,cache=writeback",
            disk.socket.display()
        ));
        command.args(["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="]);
        if let Some(date) = date {
            command.args(["-rtc", &format!("base={date}T00:00:00")]);
        }
        let log = fs::File::create(bench.dir.join(format!("{name}.qemu")))?;
        command.stdout(log.try_clone()?).stderr(log);
        let qemu = command.spawn().context("could not run qemu-system-x86_64")?;
        let shell = sh::wait_for("the guest's serial line", BOOT_TIMEOUT, || {
            Ok(UnixStream::connect(&control).ok())
        })?;
        shell.set_read_timeout(Some(COMMAND_TIMEOUT))?;
        let mut guest = Self { qemu, disk, shell: BufReader::new(shell), console };
        guest.wait_ready()?;
        Ok(guest)
    }

    fn wait_ready(&mut self) -> anyhow::Result<()> {
        let mut line = String::new();
        loop {
            line.clear();
            let n = self.shell.read_line(&mut line).unwrap_or(0);
            if line.contains("READY") {
                return Ok(());
            }
            if n == 0 {
                bail!("the guest did not boot; its console says:\n{}", self.console_tail());
            }
        }
    }

    /// Runs a command line; fails if it does.
    pub(crate) fn run(&mut self, line: &str) -> anyhow::Result<String> {
        let (code, text) = self.try_run(line)?;
        ensure!(code == 0, "in the guest: `{line}` ended with {code}:\n{text}");
        Ok(text)
    }

    /// Runs a command line; the answer is its exit code and what it printed.
    pub(crate) fn try_run(&mut self, line: &str) -> anyhow::Result<(i32, String)> {
        self.shell.get_mut().write_all(format!("{line}\n").as_bytes())?;
        let mut text = String::new();
        loop {
            let mut line = String::new();
            let n = self.shell.read_line(&mut line).unwrap_or(0);
            if n == 0 {
                bail!("the guest fell silent; its console says:\n{}", self.console_tail());
            }
            if let Some((before, code)) = line.split_once(END) {
                text.push_str(before);
                return Ok((code.trim().parse().unwrap_or(-1), text));
            }
            text.push_str(&line);
        }
    }

    /// The last lines of the console.
    pub(crate) fn console_tail(&self) -> String {
        let bytes = fs::read(&self.console).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    /// Cuts the power: the disk first, since nothing may become durable after it.
    pub(crate) fn cut_power(mut self, how: Cut) -> anyhow::Result<usize> {
        let lost = self.disk.cut(how)?;
        self.qemu.kill()?;
        self.qemu.wait()?;
        Ok(lost)
    }

    /// Ends the guest; its disk keeps everything.
    pub(crate) fn stop(mut self) -> anyhow::Result<()> {
        self.run("sync")?;
        self.disk.close()?;
        self.qemu.kill()?;
        self.qemu.wait()?;
        Ok(())
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Already ended is what we want.
        let _ended = self.qemu.kill();
        let _ended = self.qemu.wait();
    }
}

/// An empty ext4 file system.
pub(crate) fn make_disk(path: &Path, mib: u64) -> anyhow::Result<()> {
    let file = fs::File::create(path)?;
    file.set_len(mib << 20)?;
    let mut mkfs = sh::command(sh::which("mkfs.ext4").context("e2fsprogs is not installed")?);
    sh::read(mkfs.args(["-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0"]).arg(path))?;
    Ok(())
}
