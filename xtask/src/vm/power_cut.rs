//! Cuts the power while the hub's store and the node's ledger are written, again and again, and
//! checks after every boot that nothing acknowledged is missing.

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::{Context, ensure};

use super::{
    Bench,
    disk::{Cut, Random},
    guest::{Guest, INIT_HEAD, INIT_TAIL, make_disk},
    initramfs::Archive,
};
use crate::{
    dist,
    sh::{self, say, step},
};

const DISK_MIB: u64 = 512;
/// How long the writers run before a cut: from this, up to twice this.
const MIN_RUN: Duration = Duration::from_millis(1500);

/// The answer is 1 when all cuts went well.
pub(crate) fn run(bench: &Bench, cuts: u32, seed: u64) -> anyhow::Result<usize> {
    let program = step("Building the writer", dist::build_power_cut)?;
    let initramfs = bench.dir.join("power-cut.initramfs");
    let mut archive = Archive::base()?;
    archive.file("bin/power-cut", &program)?;
    bench.kernel.pack(&mut archive)?;
    archive.script("init", &format!("{INIT_HEAD}{INIT_TAIL}"));
    archive.finish(&initramfs)?;
    let image = bench.dir.join("power-cut.img");
    make_disk(&image, DISK_MIB)?;

    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    step(&format!("Cutting the power {cuts} times"), || {
        let mut totals = Totals::default();
        for number in 1..=cuts {
            let how = if number % 2 == 0 { Cut::Some(random.next()) } else { Cut::DropAll };
            let run = MIN_RUN + Duration::from_millis(random.next() % 1500);
            once(bench, &initramfs, &image, how, run, &mut totals)
                .with_context(|| format!("cut {number} of {cuts}, {how:?}, seed {seed}"))?;
        }
        say(format!(
            "{cuts} cuts: {} acknowledged writes, {} unflushed disk writes lost, 0 acknowledged writes lost",
            totals.acknowledged, totals.unflushed
        ));
        ensure!(totals.acknowledged > u64::from(cuts), "the writers wrote next to nothing");
        Ok(1)
    })
}

#[derive(Default)]
struct Totals {
    acknowledged: u64,
    unflushed: usize,
}

fn once(
    bench: &Bench,
    initramfs: &std::path::Path,
    image: &std::path::Path,
    how: Cut,
    run: Duration,
    totals: &mut Totals,
) -> anyhow::Result<()> {
    let mut guest = Guest::boot(bench, initramfs, image, "power-cut")?;
    let before = parse(&guest.run("power-cut check /data 2>&1")?, "HAVE");
    guest.run("(power-cut write /data > /dev/ttyS0 2>&1 &)")?;
    sh::wait_for("the first acknowledgement", Duration::from_secs(60), || {
        Ok(fs::read(&guest.console)?.windows(4).any(|it| it == b"ACK ").then_some(()))
    })?;
    std::thread::sleep(run);
    let console = guest.console.clone();
    totals.unflushed += guest.cut_power(how)?;
    let acknowledged = parse(&String::from_utf8_lossy(&fs::read(console)?), "ACK");

    let mut guest = Guest::boot(bench, initramfs, image, "power-cut")?;
    let text = guest.run("power-cut check /data 2>&1")?;
    ensure!(text.contains("CHECKED"), "the check did not end:\n{text}");
    let found = parse(&text, "HAVE");
    for (who, number) in &acknowledged {
        let has = found.get(who).copied().unwrap_or(0);
        ensure!(has >= *number, "{who}: {number} was acknowledged, {has} is there");
        totals.acknowledged += number - before.get(who).copied().unwrap_or(0).min(*number);
    }
    ensure!(!acknowledged.is_empty(), "nothing was acknowledged");
    guest.stop()
}

/// Lines `<word> <who> <number>`; the highest of each. A line that the cut tore does not count.
fn parse(text: &str, word: &str) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for line in text.split_inclusive('\n').filter(|it| it.ends_with('\n')) {
        let mut parts = line.split_whitespace();
        let (Some(first), Some(who), Some(number), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        if let (true, Ok(number)) = (first == word, number.parse::<u64>()) {
            let highest = found.entry(who.to_owned()).or_insert(0);
            *highest = number.max(*highest);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn torn_and_foreign_lines_do_not_count() {
        let text = "boot\nACK a 5\r\nACK a 10\nHAVE a 99\nACK b 3\nACK a 20";
        assert_eq!(parse(text, "ACK"), BTreeMap::from([("a".to_owned(), 10), ("b".to_owned(), 3)]));
    }
}
