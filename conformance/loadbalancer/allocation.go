package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// service is what the choice of an address depends on.
type service struct {
	uid       string
	name      string // namespace/name, for messages
	created   time.Time
	wanted    bool   // it is a LoadBalancer without a class of its own
	requested string // spec.loadBalancerIP
	current   string // the address in its status, none when there is none or several
}

// decision is what becomes of one Service.
type decision struct {
	address netip.Addr // not valid: it has none
	refusal string     // why a request cannot be granted
}

func (d decision) String() string {
	if d.address.IsValid() {
		return d.address.String()
	}
	return "no address"
}

// allocator remembers who has which address. It is filled from the Services' status, so that addresses stay
// over its own restarts.
type allocator struct {
	pool   pool
	cursor netip.Addr
	given  map[string]netip.Addr // by UID
}

func newAllocator(p pool) *allocator {
	return &allocator{pool: p, given: map[string]netip.Addr{}}
}

// adopt takes over what a former run has written into the status; of two holders the older one keeps it.
func (a *allocator) adopt(services []service) {
	taken := map[netip.Addr]string{}
	for _, s := range byAge(services) {
		held, err := netip.ParseAddr(s.current)
		if err != nil || !s.wanted || !a.pool.all.contains(held) || taken[held] != "" {
			continue
		}
		taken[held] = s.uid
		a.given[s.uid] = held
		if !a.pool.static.contains(held) && (!a.cursor.IsValid() || a.cursor.Less(held)) {
			a.cursor = held
		}
	}
}

// decide gives every Service its address. Who has one that still fits keeps it; then requests are granted, the
// oldest first; the rest get the next free ones.
func (a *allocator) decide(services []service) map[string]decision {
	ordered := byAge(services)
	a.release(ordered)
	taken := map[netip.Addr]string{}
	names := map[string]string{}
	for _, s := range ordered {
		names[s.uid] = s.name
	}
	for uid, held := range a.given {
		taken[held] = names[uid]
	}
	decisions := map[string]decision{}
	for _, s := range ordered {
		if s.wanted && s.requested != "" {
			decisions[s.uid] = a.grant(s, taken)
		}
	}
	for _, s := range ordered {
		if s.wanted && s.requested == "" {
			decisions[s.uid] = a.pick(s, taken)
		}
	}
	return decisions
}

// release frees the addresses of Services that are gone, want none, or ask for another one.
func (a *allocator) release(services []service) {
	keep := map[string]bool{}
	for _, s := range services {
		held, has := a.given[s.uid]
		keep[s.uid] = has && s.wanted && (s.requested == "" || s.requested == held.String())
	}
	for uid := range a.given {
		if !keep[uid] {
			delete(a.given, uid)
		}
	}
}

func (a *allocator) grant(s service, taken map[netip.Addr]string) decision {
	if held, has := a.given[s.uid]; has {
		return decision{address: held}
	}
	wanted, err := netip.ParseAddr(s.requested)
	if err != nil {
		return decision{refusal: fmt.Sprintf("the requested address %q is not an IP address", s.requested)}
	}
	if !a.pool.all.contains(wanted) {
		return decision{refusal: fmt.Sprintf("the requested address %s is not in the pool %s-%s", wanted, a.pool.all.first, a.pool.all.last)}
	}
	if holder, used := taken[wanted]; used {
		return decision{refusal: fmt.Sprintf("the requested address %s belongs to the Service %s", wanted, holder)}
	}
	return a.give(s, wanted, taken)
}

func (a *allocator) pick(s service, taken map[netip.Addr]string) decision {
	if held, has := a.given[s.uid]; has {
		return decision{address: held}
	}
	next, found := a.pool.free(a.cursor, taken)
	if !found {
		return decision{refusal: fmt.Sprintf("no address of the pool %s-%s is free", a.pool.all.first, a.pool.all.last)}
	}
	a.cursor = next
	return a.give(s, next, taken)
}

func (a *allocator) give(s service, chosen netip.Addr, taken map[netip.Addr]string) decision {
	a.given[s.uid] = chosen
	taken[chosen] = s.name
	return decision{address: chosen}
}

func byAge(services []service) []service {
	ordered := slices.Clone(services)
	slices.SortFunc(ordered, func(a, b service) int {
		if c := a.created.Compare(b.created); c != 0 {
			return c
		}
		return strings.Compare(a.name, b.name)
	})
	return ordered
}
