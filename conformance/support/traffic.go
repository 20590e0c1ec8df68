package support

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// NewClient has connections of its own.
func NewClient() *http.Client {
	return &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, // #nosec: the certificate is not what is tested
	}}
}

// Ask sends one request and reads its answer to the end.
func Ask(client *http.Client, address, host string) (int, error) {
	request, err := http.NewRequest(http.MethodGet, "http://"+address+"/", nil)
	if err != nil {
		return 0, err
	}
	request.Host = host
	response, err := client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	_, err = io.Copy(io.Discard, response.Body)
	return response.StatusCode, err
}

// Answers waits for three answers in a row with that status, each over a connection of its own.
func Answers(t testing.TB, address, host string, status int) {
	t.Helper()
	Eventually(t, 90*time.Second, fmt.Sprintf("%s answers %d for %s", address, status, host), func() error {
		for range 3 {
			if got, err := Ask(NewClient(), address, host); err != nil || got != status {
				return fmt.Errorf("%d %v", got, err)
			}
		}
		return nil
	})
}

// Handshake says whether TLS with that name succeeds.
func Handshake(address, host string) error {
	dialer := &tls.Dialer{NetDialer: &net.Dialer{Timeout: 5 * time.Second}, Config: &tls.Config{ServerName: host, InsecureSkipVerify: true}}
	connection, err := dialer.Dial("tcp", net.JoinHostPort(address, "443"))
	if err != nil {
		return err
	}
	return connection.Close()
}

// Load is strict: every request has to be answered 200.
type Load struct {
	cancel   context.CancelFunc
	clients  sync.WaitGroup
	lock     sync.Mutex
	requests int
	failures []string
}

// StartLoad asks over kept and over new connections until it is stopped.
func StartLoad(address, host string) *Load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &Load{cancel: cancel}
	for index := range 4 {
		l.clients.Go(func() {
			client := NewClient()
			for ctx.Err() == nil {
				start := time.Now()
				status, err := Ask(client, address, host)
				l.lock.Lock()
				l.requests++
				if err != nil || status != 200 {
					l.failures = append(l.failures, fmt.Sprintf("%s after %s: %d %v", start.Format("15:04:05.000"), time.Since(start).Round(time.Millisecond), status, err))
				}
				l.lock.Unlock()
				if index%2 == 0 {
					client.CloseIdleConnections()
				}
				time.Sleep(5 * time.Millisecond)
			}
			client.CloseIdleConnections()
		})
	}
	return l
}

// Stop ends the load and says what failed.
func (l *Load) Stop(t testing.TB) (failures []string) {
	t.Helper()
	l.cancel()
	l.clients.Wait()
	t.Logf("%d requests, %d failed", l.requests, len(l.failures))
	return l.failures
}

// MustHaveServed ends the load; no request may have failed.
func (l *Load) MustHaveServed(t testing.TB) {
	t.Helper()
	if failures := l.Stop(t); len(failures) > 0 {
		t.Errorf("%d of %d requests failed, first: %s", len(failures), l.requests, strings.Join(failures[:min(5, len(failures))], "; "))
	}
}
