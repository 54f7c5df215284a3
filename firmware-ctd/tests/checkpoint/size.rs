//! How many bytes a flow takes.

use firmware_ctd::checkpoint::{EncoderMemory, SavedFlow};

use super::support::Content;
use super::traffic::{Load, Noise, flow};

/// Hundredths of a byte for each of 16,384 flows: all of the image, header and dictionaries too.
fn hundredths(load: Load) -> usize {
    let mut noise = Noise(0x1234_5678_9abc_def1);
    let flows: Vec<SavedFlow> = (0..16_384).map(|_| flow(&mut noise, load)).collect();
    let content = Content { flows, ..Content::default() };
    content.image_with(&mut EncoderMemory::new()).0.len() * 100 / 16_384
}

#[test]
fn a_flow_takes_at_most_24_bytes_and_with_ipv6_32() {
    let load = Load { ipv6: false, uniform: false, nat_ports: false };
    for load in [load, Load { nat_ports: true, ..load }] {
        let each = hundredths(load);
        assert!(each <= 24_00, "{load:?}: {each}");
    }
    for load in [Load { ipv6: true, ..load }, Load { ipv6: true, uniform: true, ..load }] {
        let each = hundredths(load);
        assert!(each <= 32_00, "{load:?}: {each}");
    }
}

/// Here counters alone have 98 bits of noise in each flow, all of it 189 (205 with the port): 23.6
/// and 25.6 bytes; the addresses themselves are half a byte more.
#[test]
fn with_uniform_counters_a_flow_takes_little_more_than_its_noise() {
    let load = Load { ipv6: false, uniform: true, nat_ports: false };
    let [kept, changed] = [load, Load { nat_ports: true, ..load }].map(hundredths);
    assert!(kept <= 24_50, "{kept}");
    assert!(changed <= 26_50, "{changed}");
}
