package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// probe asks the Gateway over a kept connection.
type probe struct {
	client  *http.Client
	address string
}

// answer is what came back.
type answer struct {
	status int
	// backend is the prefix of the pod's name that answered.
	backend string
	err     error
}

func newProbe(address string) *probe {
	transport := &http.Transport{MaxIdleConnsPerHost: 4, DisableCompression: true}
	return &probe{client: &http.Client{Transport: transport, Timeout: 10 * time.Second}, address: address}
}

func (p *probe) close() { p.client.CloseIdleConnections() }

func (p *probe) ask(ctx context.Context, host string) answer {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.address+"/", nil)
	if err != nil {
		return answer{err: err}
	}
	request.Host = host
	response, err := p.client.Do(request)
	if err != nil {
		return answer{err: err}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return answer{err: err}
	}
	var echo struct {
		Pod string `json:"pod"`
	}
	_ = json.Unmarshal(body, &echo)
	backend, _, _ := strings.Cut(echo.Pod, "-")
	return answer{status: response.StatusCode, backend: backend}
}

// flipReport says what changing a route under load came to.
type flipReport struct {
	Flips    int `json:"flips"`
	Requests int `json:"requests"`
	// Wrong answers: not 200, or a connection that failed.
	Wrong int `json:"wrong"`
	// Stale answers came from the former backend after the first answer from the new one on the same connection.
	Stale int `json:"stale"`
	// Seen is the time from the acknowledged change to the first answer from the new backend, in milliseconds.
	Seen quantiles `json:"seenMilliseconds"`
}

// flip changes a route's backend over and over while clients ask, and counts wrong answers.
func (b *bed) flip(ctx context.Context, flips int, pace time.Duration) (*flipReport, error) {
	say("%d flips under load", flips)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := b.setBackend(ctx, "ready", "blue"); err != nil {
		return nil, err
	}
	time.Sleep(time.Second)
	var lock sync.Mutex
	result := &flipReport{Flips: flips}
	wanted, changedAt, seen := "blue", time.Now(), true
	var times []time.Duration
	var clients sync.WaitGroup
	for range 4 {
		clients.Go(func() {
			probe := newProbe(b.address)
			defer probe.close()
			for ctx.Err() == nil {
				lock.Lock()
				seenBefore, wantedBefore := seen, wanted
				lock.Unlock()
				answer := probe.ask(ctx, hostname("ready"))
				if ctx.Err() != nil {
					return
				}
				lock.Lock()
				result.Requests++
				switch {
				case answer.status != 200:
					result.Wrong++
				case answer.backend == wanted && !seen:
					seen = true
					times = append(times, time.Since(changedAt))
				case seenBefore && wantedBefore == wanted && answer.backend != wanted:
					result.Stale++
				}
				lock.Unlock()
			}
		})
	}
	ticker := time.NewTicker(pace)
	defer ticker.Stop()
	for flip := range flips {
		next := []string{"green", "blue"}[flip%2]
		// Answers between the write and its acknowledgement may be either's.
		lock.Lock()
		seen, wanted = true, "either"
		lock.Unlock()
		if err := b.setBackend(ctx, "ready", next); err != nil {
			return nil, err
		}
		lock.Lock()
		seen, wanted, changedAt = false, next, time.Now()
		lock.Unlock()
		<-ticker.C
	}
	time.Sleep(pace)
	cancel()
	clients.Wait()
	result.Seen = quantilesOf(times)
	return result, nil
}

// quantiles of a series, in milliseconds.
type quantiles struct {
	Samples int     `json:"samples"`
	Median  float64 `json:"median"`
	P99     float64 `json:"p99"`
	Max     float64 `json:"max"`
}

func quantilesOf(times []time.Duration) quantiles {
	if len(times) == 0 {
		return quantiles{}
	}
	slices.Sort(times)
	at := func(share float64) float64 {
		index := min(int(share*float64(len(times))), len(times)-1)
		return float64(times[index].Microseconds()) / 1000
	}
	return quantiles{Samples: len(times), Median: at(0.5), P99: at(0.99), Max: at(1)}
}
