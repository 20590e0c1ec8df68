package main

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

func testPool(t *testing.T, prefix, static string) pool {
	t.Helper()
	p, err := parsePool(prefix, static)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestParsePool(t *testing.T) {
	cases := []struct {
		prefix, static string
		fails          bool
	}{
		{"172.30.1.0/24", "172.30.1.200-172.30.1.249", false},
		{"172.30.1.0/29", "172.30.1.6-172.30.1.6", false},
		{"172.30.1.0/24", "172.30.1.200", true},
		{"172.30.1.0/24", "172.30.1.249-172.30.1.200", true},
		{"172.30.1.0/24", "172.30.2.1-172.30.2.2", true},
		{"172.30.1.0/24", "172.30.1.0-172.30.1.5", true},
		{"172.30.1.0/31", "172.30.1.0-172.30.1.1", true},
		{"fd00::/64", "fd00::1-fd00::2", true},
		{"nonsense", "a-b", true},
	}
	for _, c := range cases {
		if _, err := parsePool(c.prefix, c.static); (err != nil) != c.fails {
			t.Errorf("%s %s: %v", c.prefix, c.static, err)
		}
	}
}

// one is a Service that wants any address; its number is its age, the smaller the older.
func one(number int) service {
	return service{uid: fmt.Sprint(number), name: fmt.Sprintf("ns/s%d", number), created: time.Unix(int64(number), 0), wanted: true}
}

func asking(number int, address string) service {
	s := one(number)
	s.requested = address
	return s
}

// In the pool of these tests .1 to .4 are given freely, .5 and .6 only when asked for.
func small(t *testing.T) *allocator {
	return newAllocator(testPool(t, "10.0.0.0/29", "10.0.0.5-10.0.0.6"))
}

func expect(t *testing.T, decisions map[string]decision, want map[string]string) {
	t.Helper()
	if len(decisions) != len(want) {
		t.Errorf("%d decisions, want %d: %v", len(decisions), len(want), decisions)
	}
	for uid, wanted := range want {
		got := ""
		if d := decisions[uid]; d.address.IsValid() {
			got = d.address.String()
		} else if d.refusal == "" {
			got = "no reason"
		}
		if got != wanted {
			t.Errorf("Service %s: %q, want %q (%s)", uid, got, wanted, decisions[uid].refusal)
		}
	}
}

func TestFreedAddressIsNotGivenAgainAtOnce(t *testing.T) {
	a := small(t)
	expect(t, a.decide([]service{one(1), one(2)}), map[string]string{"1": "10.0.0.1", "2": "10.0.0.2"})
	expect(t, a.decide([]service{one(2)}), map[string]string{"2": "10.0.0.2"})
	expect(t, a.decide([]service{one(2), one(3)}), map[string]string{"2": "10.0.0.2", "3": "10.0.0.3"})
	expect(t, a.decide([]service{one(4), one(5)}), map[string]string{"4": "10.0.0.4", "5": "10.0.0.1"})
}

func TestFullPool(t *testing.T) {
	a := small(t)
	five := []service{one(1), one(2), one(3), one(4), one(5)}
	expect(t, a.decide(five), map[string]string{"1": "10.0.0.1", "2": "10.0.0.2", "3": "10.0.0.3", "4": "10.0.0.4", "5": ""})
	expect(t, a.decide(five[1:]), map[string]string{"2": "10.0.0.2", "3": "10.0.0.3", "4": "10.0.0.4", "5": "10.0.0.1"})
}

func TestRequests(t *testing.T) {
	cases := []struct {
		name, requested, given string
	}{
		{"of the static range", "10.0.0.5", "10.0.0.5"},
		{"of the free range", "10.0.0.3", "10.0.0.3"},
		{"outside of the pool", "192.0.2.1", ""},
		{"the network's own address", "10.0.0.0", ""},
		{"the broadcast address", "10.0.0.7", ""},
		{"a host name", "example.org", ""},
		{"an IPv6 address", "fd00::1", ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			expect(t, small(t).decide([]service{asking(1, c.requested)}), map[string]string{"1": c.given})
		})
	}
}

func TestRequestOfAnAddressInUse(t *testing.T) {
	a := small(t)
	both := []service{asking(1, "10.0.0.5"), asking(2, "10.0.0.5")}
	expect(t, a.decide(both), map[string]string{"1": "10.0.0.5", "2": ""})
	expect(t, a.decide(both[1:]), map[string]string{"2": "10.0.0.5"})
}

func TestRequestComesBeforeFreeChoice(t *testing.T) {
	expect(t, small(t).decide([]service{one(1), asking(2, "10.0.0.1")}), map[string]string{"1": "10.0.0.2", "2": "10.0.0.1"})
}

func TestChangedRequest(t *testing.T) {
	a := small(t)
	expect(t, a.decide([]service{one(1)}), map[string]string{"1": "10.0.0.1"})
	expect(t, a.decide([]service{asking(1, "10.0.0.6")}), map[string]string{"1": "10.0.0.6"})
	expect(t, a.decide([]service{asking(1, "192.0.2.1")}), map[string]string{"1": ""})
	expect(t, a.decide([]service{asking(1, "10.0.0.6")}), map[string]string{"1": "10.0.0.6"})
	// Who no longer asks keeps what it has.
	expect(t, a.decide([]service{one(1)}), map[string]string{"1": "10.0.0.6"})
}

func TestOtherTypeGivesTheAddressBack(t *testing.T) {
	a := small(t)
	expect(t, a.decide([]service{asking(1, "10.0.0.5")}), map[string]string{"1": "10.0.0.5"})
	other := asking(1, "10.0.0.5")
	other.wanted = false
	expect(t, a.decide([]service{other, asking(2, "10.0.0.5")}), map[string]string{"2": "10.0.0.5"})
}

func TestRestartKeepsAddresses(t *testing.T) {
	before := []service{one(1), one(2), asking(3, "10.0.0.6"), one(4)}
	for i, held := range []string{"10.0.0.3", "10.0.0.1", "10.0.0.6", "10.0.0.3"} {
		before[i].current = held
	}
	a := small(t)
	a.adopt(before)
	// The fourth claims what the older first one has: it gets another one, after the highest that was given.
	expect(t, a.decide(before), map[string]string{"1": "10.0.0.3", "2": "10.0.0.1", "3": "10.0.0.6", "4": "10.0.0.4"})
}

func TestAdoptIgnoresForeignAddresses(t *testing.T) {
	s := one(1)
	s.current = "192.0.2.7"
	a := small(t)
	a.adopt([]service{s})
	expect(t, a.decide([]service{s}), map[string]string{"1": "10.0.0.1"})
}

// Whatever happens, no two Services have one address, and nobody gets one of the static range unasked.
func TestManyChanges(t *testing.T) {
	a := newAllocator(testPool(t, "172.30.1.0/24", "172.30.1.200-172.30.1.249"))
	for round := range 300 {
		var services []service
		for number := range 44 {
			if (number*7+round)%5 != 0 {
				services = append(services, one(round/3*100+number))
			}
		}
		services = append(services, asking(100000, "172.30.1.240"))
		holders := map[netip.Addr]string{}
		for uid, d := range a.decide(services) {
			if !d.address.IsValid() {
				t.Fatalf("round %d: Service %s has none: %s", round, uid, d.refusal)
			}
			if holders[d.address] != "" {
				t.Fatalf("round %d: %s belongs to %s and %s", round, d.address, holders[d.address], uid)
			}
			holders[d.address] = uid
			if a.pool.static.contains(d.address) && uid != "100000" {
				t.Fatalf("round %d: Service %s got %s unasked", round, uid, d.address)
			}
		}
	}
}
