//! Frames as the drivers' parser reads them, and templates that make none.

use super::*;

fn v6() -> Template {
    let (src, dst) = ("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap());
    Template { src, dst, ..Template::default() }
}

#[test]
fn the_frame_is_what_the_parser_of_the_drivers_reads() {
    let rtp = AppHeader::Rtp { payload_type: 96, ssrc: 1, step: 1 };
    for base in [Template::default(), v6(), Template { app: rtp, ..Template::default() }] {
        for (outer_vlan, vlan) in [(None, None), (None, Some(42)), (Some(7), Some(42))] {
            let template = Template { vlan, outer_vlan, ..base };
            let mut frame = template.headers().unwrap();
            frame.resize(template.frame_len(), 0);
            let layers = pmd::headers::layers(&frame).unwrap();
            assert_eq!(layers.vlan, outer_vlan.or(vlan));
            assert_eq!(layers.protocol, Some(protocol::UDP));
            assert_eq!(layers.transport, template.udp_at());
            assert_eq!(layers.payload, Some(template.payload_at()));
        }
    }
}

#[test]
fn lengths_and_tags_out_of_range_are_refused() {
    let with = |payload_len, vlan| {
        Template { payload_len, vlan, ..Template::default() }.headers().unwrap_err().to_string()
    };
    assert_eq!(with(23, None), "payload of 23 B: should be 24 to 65507 B");
    assert_eq!(with(65508, None), "payload of 65508 B: should be 24 to 65507 B");
    assert_eq!(with(64, Some(4095)), "VLAN 4095: should be 1 to 4094");
}

#[test]
fn a_frame_too_short_for_its_headers_names_the_least_size() {
    let auto = Template { header: HeaderChoice::Auto, ..Template::default() };
    let says = |template: Template, len| template.with_frame_len(len).unwrap_err().to_string();
    assert_eq!(auto.with_frame_len(60).unwrap().form(), HeaderForm::Short);
    assert_eq!(auto.with_frame_len(66).unwrap().form(), HeaderForm::Long);
    assert_eq!(says(auto, 59), "frames of 59 B: these headers need 60 to 65549 B (without FCS)");
    assert!(says(Template { vlan: Some(1), ..auto }, 61).contains("need 62 to"));
    let long = Template { header: HeaderChoice::Long, ..auto };
    assert!(says(long, 64).contains("need 66 to"));
    let v6 = Template { header: HeaderChoice::Auto, ..v6() };
    assert!(says(v6, 77).contains("need 78 to 65589"));
}

#[test]
fn headers_that_do_not_go_together_are_refused() {
    let says = |template: Template| template.check().unwrap_err().to_string();
    let base = Template::default();
    let spead = |items| Template { app: AppHeader::Spead { items }, ..base };
    assert_eq!(says(Template { outer_vlan: Some(1), ..base }), "an outer VLAN needs an inner one");
    assert_eq!(
        says(Template { dst: "::1".parse().unwrap(), ..base }),
        "from 10.0.0.1 to ::1: both must be IPv4, or both IPv6"
    );
    assert_eq!(says(spead(3)), "SPEAD items 3: should be 4 to 15");
    assert_eq!(
        says(Template { transport: Transport::Tcp { flags: 2 }, ..spead(4) }),
        "RTP and SPEAD go over UDP"
    );
    assert_eq!(says(Template { priority: 8, ..base }), "VLAN priority 8: should be 0 to 7");
    assert_eq!(says(Template { ttl: 0, ..base }), "TTL 0: should be 1 to 255");
}
