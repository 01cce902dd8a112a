use super::*;

fn proxies(networks: &[&str], header: ForwardedHeader) -> TrustedProxies {
    TrustedProxies {
        networks: networks.iter().map(|text| text.parse().unwrap()).collect(),
        header,
    }
}

fn headers(name: &HeaderName, lines: &[&str]) -> HeaderMap {
    let value = |line: &&str| (name.clone(), HeaderValue::from_str(line).unwrap());
    let mut headers = HeaderMap::new();
    for (name, value) in lines.iter().map(value) {
        headers.append(name, value);
    }
    headers
}

/// The trail behind a peer at 10.0.0.1, where 10.0.0.0/8 and 2001:db8::/32 are trusted.
fn trail(header: ForwardedHeader, lines: &[&str]) -> Vec<String> {
    let name = match header {
        ForwardedHeader::XForwardedFor => X_FORWARDED_FOR,
        ForwardedHeader::Forwarded => FORWARDED,
    };
    let proxies = proxies(&["10.0.0.0/8", "2001:db8::/32"], header);
    let peer = "10.0.0.1".parse().unwrap();
    let trail = proxies.trail(peer, &headers(&name, lines));
    trail.iter().map(ToString::to_string).collect()
}

/// C16: what comes from elsewhere than a trusted proxy is what somebody made up.
#[test]
fn c16_only_trusted_peers_are_believed() {
    let spoofed = headers(&X_FORWARDED_FOR, &["203.0.113.7"]);
    let ask = |networks: &[&str], peer: &str| {
        let proxies = proxies(networks, ForwardedHeader::XForwardedFor);
        proxies.trail(peer.parse().unwrap(), &spoofed).len()
    };
    assert_eq!(ask(&[], "127.0.0.1"), 0);
    assert_eq!(ask(&["10.0.0.0/8"], "11.0.0.1"), 0);
    assert_eq!(ask(&["10.0.0.0/8"], "::1"), 0);
    assert_eq!(ask(&["10.0.0.0/8"], "10.255.255.255"), 1);
    assert_eq!(
        ask(&["10.0.0.0/8"], "::ffff:10.0.0.1"),
        1,
        "a dual-stack listener"
    );
    assert_eq!(ask(&["2001:db8::/32"], "2001:db8:ffff::1"), 1);
    assert_eq!(ask(&["0.0.0.0/0"], "198.51.100.1"), 1);
}

/// C16: the client is the last address that is no trusted proxy's, whatever stands before it.
#[test]
fn c16_the_rightmost_untrusted_address_is_the_client() {
    use ForwardedHeader::XForwardedFor;
    for (lines, expected) in [
        (&[][..], &[][..]),
        (&["203.0.113.7"], &["203.0.113.7"]),
        (&["1.1.1.1, 203.0.113.7"], &["203.0.113.7"]),
        (
            &["1.1.1.1, 203.0.113.7, 10.0.0.3,10.0.0.2"],
            &["203.0.113.7", "10.0.0.3", "10.0.0.2"],
        ),
        // Lines of one name are one list.
        (
            &["1.1.1.1", "203.0.113.7, 10.0.0.3", "10.0.0.2"],
            &["203.0.113.7", "10.0.0.3", "10.0.0.2"],
        ),
        (&["10.0.0.9, 10.0.0.2"], &["10.0.0.9", "10.0.0.2"]),
        (&[" , 203.0.113.7 ,, "], &["203.0.113.7"]),
        // With ports, as some proxies write them; IPv6 in every way.
        (&["203.0.113.7:4711"], &["203.0.113.7"]),
        (&["2001:db9::1"], &["2001:db9::1"]),
        (&["[2001:db9::1]"], &["2001:db9::1"]),
        (
            &["[2001:db9::1]:4711, 2001:db8::2"],
            &["2001:db9::1", "2001:db8::2"],
        ),
        (&["::ffff:203.0.113.7"], &["203.0.113.7"]),
        (
            &["203.0.113.7, ::ffff:10.0.0.2"],
            &["203.0.113.7", "10.0.0.2"],
        ),
        // What cannot be read ends the list there: the proxy before it is the nearest that is known.
        (&["203.0.113.7, unknown, 10.0.0.2"], &["10.0.0.2"]),
        (&["garbage"], &[]),
        (&["203.0.113.7.1"], &[]),
        (&["[2001:db9::1"], &[]),
        (&["[2001:db9::1]4711"], &[]),
        (&["[203.0.113.7]"], &[]),
        (&["203.0.113.7:"], &[]),
        (&["2001:db9::1%eth0"], &[]),
        (&["\"203.0.113.7\""], &[]),
    ] {
        assert_eq!(trail(XForwardedFor, lines), expected, "{lines:?}");
    }
}

/// C16: RFC 7239, its own examples among them.
#[test]
fn c16_forwarded_is_read_as_its_standard_says() {
    use ForwardedHeader::Forwarded;
    for (lines, expected) in [
        (&["for=192.0.2.43"][..], &["192.0.2.43"][..]),
        (
            &["for=192.0.2.43, for=198.51.100.17; ;"],
            &["198.51.100.17"],
        ),
        (
            &["for=192.0.2.43, For=\"10.0.0.3:80\";proto=http;by=10.0.0.2"],
            &["192.0.2.43", "10.0.0.3"],
        ),
        (
            &["for=\"[2001:db9:cafe::17]:4711\""],
            &["2001:db9:cafe::17"],
        ),
        (&["proto=http; for = \"192.0.2.43:_port\""], &["192.0.2.43"]),
        (
            &["for=192.0.2.43", "for=\"[2001:db8::5]\";host=\"a,b;c\""],
            &[],
        ),
        (
            &["for=192.0.2.43", "host=\"a, b\";for=10.0.0.3"],
            &["192.0.2.43", "10.0.0.3"],
        ),
        // An open quote of the client's does not swallow what the proxy appended.
        (&["for=\"1.1.1.1, for=203.0.113.7"], &["203.0.113.7"]),
        (&["for=1.1.1.1;x=\"\\\", for=203.0.113.7"], &["203.0.113.7"]),
        (&["for=unknown, for=10.0.0.3"], &["10.0.0.3"]),
        (&["for=\"_gazonk\""], &[]),
        (&["proto=https"], &[]),
        (&["for=192.0.2.43;for=192.0.2.44"], &[]),
        (&["192.0.2.43"], &[]),
        (&["for=\"192.0.2.43"], &[]),
        (&["for="], &[]),
    ] {
        assert_eq!(trail(Forwarded, lines), expected, "{lines:?}");
    }
}

/// C16: a proxy may pass on the header it does not write as the client wrote it.
#[test]
fn c16_only_the_configured_header_is_read() {
    let proxies = proxies(&["10.0.0.0/8"], ForwardedHeader::Forwarded);
    let peer = "10.0.0.1".parse().unwrap();
    let spoofed = headers(&X_FORWARDED_FOR, &["203.0.113.7"]);
    assert!(proxies.trail(peer, &spoofed).is_empty());
}

/// Somebody within a trusted network can write a list as long as a header may be.
#[test]
fn c16_hops_are_bounded() {
    use ForwardedHeader::XForwardedFor;
    for (hops, followed) in [(MAX_HOPS, MAX_HOPS), (MAX_HOPS + 1, MAX_HOPS)] {
        let list = vec!["10.0.0.2"; hops].join(",");
        assert_eq!(trail(XForwardedFor, &[&list]).len(), followed);
    }
}

#[test]
fn networks_are_read_and_written() {
    for text in [
        "10.0.0.0/8",
        "192.0.2.1",
        "0.0.0.0/0",
        "::/0",
        "2001:db8::/32",
        "::1",
        "192.0.2.128/25",
    ] {
        let network: Network = text.parse().unwrap();
        assert_eq!(network.to_string(), text);
    }
    assert_eq!(
        "192.0.2.1/32".parse::<Network>().unwrap().to_string(),
        "192.0.2.1"
    );
    for (text, mend) in [
        ("", "write an address or a network"),
        ("proxy.example.com", "write an address or a network"),
        ("10.0.0.0/33", "a prefix is a number from 0 to 32"),
        ("::1/129", "a prefix is a number from 0 to 128"),
        ("10.0.0.0/", "a prefix is a number"),
        ("10.0.0.0/-1", "a prefix is a number"),
        ("10.1.2.3/8", "the network is 10.0.0.0/8"),
        ("2001:db8::1/32", "the network is 2001:db8::/32"),
        ("::ffff:10.0.0.0/104", "write IPv4 addresses as such"),
        ("[::1]", "write an address or a network"),
    ] {
        let error = text.parse::<Network>().unwrap_err();
        assert!(error.to_string().starts_with(mend), "{text}: {error}");
    }
}

#[test]
fn networks_end_where_they_end() {
    let within = |network: &str, address: &str| {
        let network: Network = network.parse().unwrap();
        network.contains(address.parse().unwrap())
    };
    assert!(within("192.0.2.128/25", "192.0.2.255"));
    assert!(!within("192.0.2.128/25", "192.0.2.127"));
    assert!(within("0.0.0.0/0", "255.255.255.255") && !within("0.0.0.0/0", "::1"));
    assert!(within("::/0", "ffff::") && !within("::/0", "::ffff:1.2.3.4"));
    assert!(within("192.0.2.1", "192.0.2.1") && !within("192.0.2.1", "192.0.2.0"));
}

/// What is written for the next server is read as it was meant.
#[test]
fn c16_what_is_written_is_read_again() {
    let trail: Vec<IpAddr> = ["203.0.113.7", "2001:db8::5"]
        .iter()
        .map(|text| text.parse().unwrap())
        .collect();
    let [(_, plain), (_, standard)] = header_values(trail.iter().copied());
    assert_eq!(plain, "203.0.113.7, 2001:db8::5");
    assert_eq!(standard, "for=203.0.113.7, for=\"[2001:db8::5]\"");
    for (header, (name, value)) in [ForwardedHeader::XForwardedFor, ForwardedHeader::Forwarded]
        .into_iter()
        .zip(header_values(trail.iter().copied()))
    {
        let proxies = proxies(&["10.0.0.1", "2001:db8::/32"], header);
        let headers = HeaderMap::from_iter([(name, value)]);
        assert_eq!(proxies.trail("10.0.0.1".parse().unwrap(), &headers), trail);
    }
}
