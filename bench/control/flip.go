package main

import (
	"context"
	"slices"
	"sync"
	"time"
)

// flipReport says what changing a route under load came to. With each change the route gets another backend and a number, so that every
// answer tells which version of the route gave it.
type flipReport struct {
	Flips int `json:"flips"`
	// PaceMilliseconds lie between two changes.
	PaceMilliseconds float64 `json:"paceMilliseconds"`
	Connections      int     `json:"connections"`
	// Load is how many requests were asked for in each second; 0: as many as there were answers.
	Load     int `json:"load"`
	Requests int `json:"requests"`
	// RequestsPerSecond were answered.
	RequestsPerSecond float64 `json:"requestsPerSecond"`
	// Wrong answers: Failed, Torn, Back and Early.
	Wrong int `json:"wrong"`
	// Failed: not 200, or no answer at all.
	Failed int `json:"failed"`
	// Torn: from a backend that does not belong to the version.
	Torn int `json:"torn"`
	// Back: from an older version than the same connection had seen.
	Back int `json:"back"`
	// Early: from a version that nobody had asked for yet.
	Early int `json:"early"`
	// Behind: from an older version than another connection had seen before the request began: not every worker had followed yet.
	Behind int `json:"behind"`
	// Unseen versions were replaced before anyone saw them.
	Unseen int `json:"unseen"`
	// Seen is the time from the acknowledged change to the end of the first answer from it, or from a later one.
	Seen quantiles `json:"seenMilliseconds"`
	// Followed is the same until no answer to a later request is older: what begins after that is served by the change.
	Followed quantiles `json:"followedMilliseconds"`
	// Spread is, for each change, from the end of the first answer of it to the beginning of the last request with an older answer; 0
	// where none began after it.
	Spread quantiles `json:"spreadMilliseconds"`
}

// exchange is one request and what came of it.
type exchange struct {
	begin, end time.Time
	connection int
	answer     answer
}

// change is when one version of the route was written.
type change struct {
	sent, acknowledged time.Time
}

// flip changes a route over and over while clients ask, and judges every answer afterwards.
func (b *bed) flip(ctx context.Context, s settings) (*flipReport, error) {
	say("flips: %d, one each %s, under load", s.flips, s.pace)
	var changes []change
	write := func() error {
		version := len(changes)
		next := change{sent: time.Now()}
		if err := b.setVersion(ctx, "ready", version); err != nil {
			return err
		}
		next.acknowledged = time.Now()
		changes = append(changes, next)
		return nil
	}
	// Version 0 is there before the load.
	if err := write(); err != nil {
		return nil, err
	}
	time.Sleep(2 * time.Second)
	asking, stop := context.WithCancel(ctx)
	defer stop()
	exchanges := make([][]exchange, s.connections)
	var clients sync.WaitGroup
	start := time.Now()
	for index := range exchanges {
		clients.Go(func() { exchanges[index] = b.load(asking, s, index) })
	}
	ticker := time.NewTicker(s.pace)
	defer ticker.Stop()
	for range s.flips {
		<-ticker.C
		if err := write(); err != nil {
			return nil, err
		}
	}
	<-ticker.C
	<-ticker.C
	stop()
	clients.Wait()
	report := judge(changes, exchanges)
	report.PaceMilliseconds = milliseconds(s.pace)
	report.Load = s.load
	report.RequestsPerSecond = float64(report.Requests) / time.Since(start).Seconds()
	return report, nil
}

// load asks over one connection until the context ends.
func (b *bed) load(ctx context.Context, s settings, connection int) []exchange {
	probe := newProbe(b.address)
	defer probe.close()
	var pause time.Duration
	if s.load > 0 {
		pause = time.Second * time.Duration(s.connections) / time.Duration(s.load)
	}
	var exchanges []exchange
	for due := time.Now(); ctx.Err() == nil; due = due.Add(pause) {
		if wait := time.Until(due); pause > 0 && wait > 0 {
			time.Sleep(wait)
		} else {
			// What could not be asked in time is not made up for.
			due = time.Now()
		}
		begin := time.Now()
		answer := probe.ask(hostname("ready"))
		exchanges = append(exchanges, exchange{begin: begin, end: time.Now(), connection: connection, answer: answer})
	}
	return exchanges
}

// judge holds the answers against the changes: version 0 is the first of them, which was there before.
func judge(changes []change, connections [][]exchange) *flipReport {
	report := &flipReport{Flips: len(changes) - 1, Connections: len(connections)}
	// When each version, or a later one, was first seen, and when the last request began that an older one answered.
	first, lastOlder := make([]time.Time, len(changes)), make([]time.Time, len(changes))
	seen := make([]bool, len(changes))
	all := slices.Concat(connections...)
	good := all[:0:0]
	for _, exchange := range all {
		answer := exchange.answer
		report.Requests++
		switch {
		case answer.err != nil || answer.status != 200 || answer.version < 0 || answer.version >= len(changes):
			report.Failed++
			continue
		case !answer.isFrom(backendOf(answer.version)):
			report.Torn++
		case exchange.end.Before(changes[answer.version].sent):
			report.Early++
		}
		good = append(good, exchange)
		version := answer.version
		seen[version] = true
		for older := version; older >= 0 && (first[older].IsZero() || exchange.end.Before(first[older])); older-- {
			first[older] = exchange.end
		}
		for newer := version + 1; newer < len(changes) && lastOlder[newer].Before(exchange.begin); newer++ {
			lastOlder[newer] = exchange.begin
		}
	}
	report.Back, report.Behind = older(good)
	report.Wrong = report.Failed + report.Torn + report.Back + report.Early

	var toSeen, toFollowed, spread []time.Duration
	for version := 1; version < len(changes); version++ {
		if !seen[version] {
			report.Unseen++
		}
		if first[version].IsZero() {
			continue
		}
		acknowledged := changes[version].acknowledged
		toSeen = append(toSeen, max(0, first[version].Sub(acknowledged)))
		toFollowed = append(toFollowed, max(0, lastOlder[version].Sub(acknowledged)))
		spread = append(spread, max(0, lastOlder[version].Sub(first[version])))
	}
	report.Seen, report.Followed, report.Spread = quantilesOf(toSeen), quantilesOf(toFollowed), quantilesOf(spread)
	return report
}

// older counts answers that are older than what was seen before their requests began: by the same connection, or only by another.
func older(exchanges []exchange) (back, behind int) {
	begins, ends := slices.Clone(exchanges), slices.Clone(exchanges)
	slices.SortFunc(begins, func(a, b exchange) int { return a.begin.Compare(b.begin) })
	slices.SortFunc(ends, func(a, b exchange) int { return a.end.Compare(b.end) })
	newest, own, next := -1, map[int]int{}, 0
	for _, exchange := range begins {
		for ; next < len(ends) && !ends[next].end.After(exchange.begin); next++ {
			version := ends[next].answer.version
			newest = max(newest, version)
			own[ends[next].connection] = max(own[ends[next].connection], version)
		}
		switch version := exchange.answer.version; {
		case version < own[exchange.connection]:
			back++
		case version < newest:
			behind++
		}
	}
	return back, behind
}
