package p2p

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// ErrAddress says that a text is no address of the kind it should be of.
var ErrAddress = errors.New("not an address that can be used")

// ParseListen reads where a host is to listen: IP:PORT, or a multiaddress of TCP or, in a swarm that is not private,
// QUIC. Of IP:PORT there are both, as far as the swarm has them.
func ParseListen(text string, private bool) ([]ma.Multiaddr, error) {
	if ip, err := netip.ParseAddrPort(text); err == nil {
		return listenOn(ip, private)
	}
	a, err := ma.NewMultiaddr(text)
	if err != nil || len(a) == 0 {
		return nil, fmt.Errorf("%q: %w: IP:PORT or /ip4/IP/tcp/PORT is wanted", text, ErrAddress)
	}
	if err := checkTransport(a, private, false); err != nil {
		return nil, fmt.Errorf("%q: %w", text, err)
	}
	return []ma.Multiaddr{a}, nil
}

func listenOn(ip netip.AddrPort, private bool) ([]ma.Multiaddr, error) {
	family := "ip4"
	if ip.Addr().Is6() {
		family = "ip6"
	}
	if ip.Addr().Zone() != "" {
		return nil, fmt.Errorf("%q: %w: give a zone as /ip6zone/ZONE/ip6/IP/tcp/PORT", ip, ErrAddress)
	}
	texts := []string{fmt.Sprintf("/%s/%s/tcp/%d", family, ip.Addr(), ip.Port())}
	if !private {
		texts = append(texts, fmt.Sprintf("/%s/%s/udp/%d/quic-v1", family, ip.Addr(), ip.Port()))
	}
	var all []ma.Multiaddr
	for _, t := range texts {
		a, err := ma.NewMultiaddr(t)
		if err != nil {
			return nil, fmt.Errorf("%q: %w: %w", ip, ErrAddress, err)
		}
		all = append(all, a)
	}
	return all, nil
}

// ParsePeer reads the address of a peer, as Host.Addrs has it: /ip4/IP/tcp/PORT/p2p/ID, or with a name, /dns4/NAME/….
func ParsePeer(text string, private bool) (peer.AddrInfo, error) {
	info, err := peer.AddrInfoFromString(text)
	if err != nil {
		return peer.AddrInfo{}, fmt.Errorf("%q: %w: /ip4/IP/tcp/PORT/p2p/ID is wanted", text, ErrAddress)
	}
	if len(info.Addrs) == 0 {
		return *info, fmt.Errorf("%q: %w: it says who, but not where: /ip4/IP/tcp/PORT/p2p/ID is wanted", text, ErrAddress)
	}
	if err := checkTransport(info.Addrs[0], private, true); err != nil {
		return *info, fmt.Errorf("%q: %w", text, err)
	}
	return *info, nil
}

// IsExact reports whether others reach a host that listens at a where a says: not at any address, nor any port.
func IsExact(a ma.Multiaddr) bool {
	if manet.IsIPUnspecified(a) {
		return false
	}
	for _, code := range []int{ma.P_TCP, ma.P_UDP} {
		if port, err := a.ValueForProtocol(code); err == nil && port == "0" {
			return false
		}
	}
	return true
}

// checkTransport refuses what a host has no transport for.
func checkTransport(a ma.Multiaddr, private, names bool) error {
	var codes []int
	for _, c := range a {
		if c.Protocol().Code != ma.P_IP6ZONE {
			codes = append(codes, c.Protocol().Code)
		}
	}
	is := func(want ...int) bool {
		if len(codes) != 1+len(want) {
			return false
		}
		for i := range want {
			if codes[1+i] != want[i] {
				return false
			}
		}
		return true
	}
	if len(codes) == 0 {
		return fmt.Errorf("%w: it is empty", ErrAddress)
	}
	switch codes[0] {
	case ma.P_IP4, ma.P_IP6:
	case ma.P_DNS, ma.P_DNS4, ma.P_DNS6:
		if !names {
			return fmt.Errorf("%w: an IP is wanted to listen on", ErrAddress)
		}
	default:
		return fmt.Errorf("%w: it begins neither with an IP nor with a name", ErrAddress)
	}
	switch {
	case is(ma.P_TCP):
	case is(ma.P_UDP, ma.P_QUIC_V1):
		if private {
			return fmt.Errorf("%w: a private swarm has no QUIC: give /tcp/PORT", ErrAddress)
		}
	default:
		return fmt.Errorf("%w: only TCP, and QUIC (/udp/PORT/quic-v1) in a swarm that is not private, can be used", ErrAddress)
	}
	return nil
}
