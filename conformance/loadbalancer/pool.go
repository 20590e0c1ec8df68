package main

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
)

// pool is the addresses that can be given: a range, of which a part is kept for Services that ask for an address.
type pool struct {
	all    addressRange
	static addressRange
}

// addressRange is a closed range of IPv4 addresses.
type addressRange struct{ first, last netip.Addr }

// parsePool reads a prefix, whose first and last address are never given, and a range first-last within it.
func parsePool(prefix, static string) (pool, error) {
	parsed, err := netip.ParsePrefix(prefix)
	if err != nil {
		return pool{}, err
	}
	if !parsed.Addr().Is4() || parsed.Bits() > 30 {
		return pool{}, fmt.Errorf("the pool %s is not an IPv4 prefix of at least four addresses", prefix)
	}
	first := number(parsed.Masked().Addr())
	size := uint32(1) << (32 - parsed.Bits())
	p := pool{all: addressRange{address(first + 1), address(first + size - 2)}}
	from, to, found := strings.Cut(static, "-")
	if !found {
		return pool{}, fmt.Errorf("the static range %q is not first-last", static)
	}
	if p.static.first, err = netip.ParseAddr(from); err != nil {
		return pool{}, err
	}
	if p.static.last, err = netip.ParseAddr(to); err != nil {
		return pool{}, err
	}
	if !p.all.contains(p.static.first) || !p.all.contains(p.static.last) || p.static.last.Less(p.static.first) {
		return pool{}, fmt.Errorf("the static range %s is not within the pool %s", static, prefix)
	}
	return p, nil
}

func (r addressRange) contains(a netip.Addr) bool {
	return a.Is4() && !a.Less(r.first) && !r.last.Less(a)
}

// free gives the next address after the cursor that may be given unasked and that nobody has.
func (p pool) free(cursor netip.Addr, taken map[netip.Addr]string) (netip.Addr, bool) {
	candidate := cursor
	for range number(p.all.last) - number(p.all.first) + 1 {
		candidate = p.next(candidate)
		if _, used := taken[candidate]; !used && !p.static.contains(candidate) {
			return candidate, true
		}
	}
	return netip.Addr{}, false
}

// next goes round.
func (p pool) next(a netip.Addr) netip.Addr {
	if !p.all.contains(a) || a == p.all.last {
		return p.all.first
	}
	return a.Next()
}

func number(a netip.Addr) uint32 {
	bytes := a.As4()
	return binary.BigEndian.Uint32(bytes[:])
}

func address(n uint32) netip.Addr {
	var bytes [4]byte
	binary.BigEndian.PutUint32(bytes[:], n)
	return netip.AddrFrom4(bytes)
}
