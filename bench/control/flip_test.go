package main

import (
	"testing"
	"time"
)

func TestJudge(t *testing.T) {
	at := func(milliseconds int) time.Time {
		return time.Unix(1000, 0).Add(time.Duration(milliseconds) * time.Millisecond)
	}
	changes := []change{{at(0), at(5)}, {at(100), at(105)}, {at(200), at(205)}}
	ok := func(connection, begin, end, version int) exchange {
		return exchange{begin: at(begin), end: at(end), connection: connection, answer: answer{status: 200, backend: backendOf(version), version: version}}
	}
	for _, test := range []struct {
		name        string
		connections [][]exchange
		want        flipReport
		spread      float64
	}{
		{"everyone follows at once", [][]exchange{{ok(0, 50, 51, 0), ok(0, 104, 110, 1), ok(0, 210, 211, 2)}, {ok(1, 108, 112, 1)}}, flipReport{Requests: 4}, 0},
		{"an old answer to a request that began before the new one was seen", [][]exchange{{ok(0, 104, 110, 1)}, {ok(1, 109, 120, 0), ok(1, 210, 211, 2)}}, flipReport{Requests: 3}, 0},
		{"another worker is behind", [][]exchange{{ok(0, 104, 110, 1)}, {ok(1, 113, 120, 0), ok(1, 210, 211, 2)}}, flipReport{Requests: 3, Behind: 1}, 3},
		{"the same connection goes back", [][]exchange{{ok(0, 104, 110, 1), ok(0, 111, 112, 0), ok(0, 210, 211, 2)}}, flipReport{Requests: 3, Wrong: 1, Back: 1}, 1},
		{"a version is skipped", [][]exchange{{ok(0, 50, 51, 0), ok(0, 230, 231, 2)}}, flipReport{Requests: 2, Unseen: 1}, 0},
		{"a backend of another version", [][]exchange{{{begin: at(110), end: at(111), answer: answer{status: 200, backend: "blue", version: 1}}, ok(0, 210, 211, 2)}}, flipReport{Requests: 2, Wrong: 1, Torn: 1}, 0},
		{"a version that nobody asked for", [][]exchange{{ok(0, 50, 51, 1), ok(0, 210, 211, 2)}}, flipReport{Requests: 2, Wrong: 1, Early: 1}, 0},
		{"a failure", [][]exchange{{{begin: at(110), end: at(111), answer: answer{status: 503, version: -1}}, ok(0, 130, 131, 1), ok(0, 210, 211, 2)}}, flipReport{Requests: 3, Wrong: 1, Failed: 1}, 0},
	} {
		got := judge(changes, test.connections)
		spread := got.Spread.Max
		want := test.want
		want.Flips, want.Connections = 2, len(test.connections)
		want.Seen, want.Followed, want.Spread = got.Seen, got.Followed, got.Spread
		if *got != want || spread != test.spread {
			t.Errorf("%s: got %+v, spread %v; want %+v, spread %v", test.name, *got, spread, want, test.spread)
		}
	}
}
