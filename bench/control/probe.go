package main

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// probe asks the Gateway over one kept connection, so that what one worker answers is told apart from another's.
type probe struct {
	address    string
	connection net.Conn
	reader     *bufio.Reader
}

// answer is what came back.
type answer struct {
	status int
	// backend is the prefix of the pod's name that answered.
	backend string
	// version is the number that the route gave it; -1 without one.
	version int
	err     error
}

// isFrom says whether this is a success of that backend.
func (a answer) isFrom(backend string) bool {
	return a.err == nil && a.status == http.StatusOK && a.backend == backend
}

const patience = 10 * time.Second

func newProbe(address string) *probe { return &probe{address: address} }

func (p *probe) close() {
	if p.connection != nil {
		_ = p.connection.Close()
		p.connection = nil
	}
}

func (p *probe) ask(host string) answer {
	answer := p.exchange(host)
	if answer.err != nil {
		p.close()
	}
	return answer
}

func (p *probe) exchange(host string) answer {
	if p.connection == nil {
		connection, err := net.DialTimeout("tcp", net.JoinHostPort(p.address, "80"), patience)
		if err != nil {
			return answer{err: err}
		}
		p.connection, p.reader = connection, bufio.NewReader(connection)
	}
	if err := p.connection.SetDeadline(time.Now().Add(patience)); err != nil {
		return answer{err: err}
	}
	if _, err := io.WriteString(p.connection, "GET / HTTP/1.1\r\nHost: "+host+"\r\n\r\n"); err != nil {
		return answer{err: err}
	}
	response, err := http.ReadResponse(p.reader, nil)
	if err != nil {
		return answer{err: err}
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return answer{err: err}
	}
	if response.Close {
		p.close()
	}
	var echo struct {
		Pod     string              `json:"pod"`
		Headers map[string][]string `json:"headers"`
	}
	_ = json.Unmarshal(body, &echo)
	backend, _, _ := strings.Cut(echo.Pod, "-")
	version := -1
	if values := echo.Headers[versionHeader]; len(values) == 1 {
		if number, err := strconv.Atoi(values[0]); err == nil {
			version = number
		}
	}
	return answer{status: response.StatusCode, backend: backend, version: version}
}
