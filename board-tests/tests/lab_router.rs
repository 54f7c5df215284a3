//! The lab itself: the router translates, and the kernel counts what the hosts sent.

use board_tests::lab::{Lab, Options, Path, Phy, Proto, enter};
use libtest_mimic::{Arguments, Failed, Trial};

fn main() {
    let arguments = Arguments::from_args();
    if let Err(error) = enter() {
        eprintln!("{error}");
        std::process::exit(77);
    }
    let tests = vec![Trial::test("udp_is_translated", udp_is_translated)];
    libtest_mimic::run(&arguments, tests).exit();
}

fn udp_is_translated() -> Result<(), Failed> {
    let mut lab = Lab::new(&Options::default())?;
    lab.router.account()?;
    let path = Path { ipv6: false, lan: 1, wan: 2, sport: 4000, dport: 53 };
    let flow = lab.hosts.open_udp(path)?;
    lab.hosts.udp_send(&flow, 100)?;
    lab.hosts.udp_reply(&flow, 500)?;
    println!("{:?}", lab.router.dump()?);
    println!("{:?}", lab.hosts.at_lan(&path, Proto::Udp));
    let _ = Phy::Tap;
    Ok(())
}
