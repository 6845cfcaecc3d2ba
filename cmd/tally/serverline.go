package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// warnClear says so when secrets would cross a network in the clear.
func (s *gatewayRole) warnClear() {
	u, err := url.Parse(s.Server)
	if err != nil || u.Scheme != "http" || u.Hostname() == "localhost" {
		return
	}
	if ip := net.ParseIP(u.Hostname()); ip == nil || !ip.IsLoopback() {
		s.log.Warn("the line to the server is not encrypted: the token and the pepper of keys can be read on it; use https")
	}
}

// token is read from the flag, the environment or a file.
func (s *gatewayRole) token() (string, error) {
	if s.Server == "" {
		return "", errors.New("--role gateway needs --server URL")
	}
	if s.ServerTokenFile != "" {
		b, err := os.ReadFile(s.ServerTokenFile)
		if err != nil {
			return "", fmt.Errorf("read the server token: %w", err)
		}
		return strings.TrimSpace(string(b)), nil
	}
	if s.ServerToken == "" {
		return "", errors.New("--role gateway needs a token: `tally gateway token NAME` on the server makes one; give it as TALLY_SERVER_TOKEN or --server-token-file")
	}
	return s.ServerToken, nil
}

// transport speaks HTTP/1.1: each call has a connection of its own, so that a stuck one holds up nothing else.
func (s *gatewayRole) transport() (*http.Transport, error) {
	t := &http.Transport{
		MaxIdleConns: 256, MaxIdleConnsPerHost: 256, IdleConnTimeout: time.Minute, TLSHandshakeTimeout: 3 * time.Second,
		Protocols: new(http.Protocols), TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
	}
	t.Protocols.SetHTTP1(true)
	if s.ServerCA != "" {
		pool, err := certPool(s.ServerCA)
		if err != nil {
			return nil, fmt.Errorf("--server-ca: %w", err)
		}
		t.TLSClientConfig.RootCAs = pool
	}
	if (s.ClientCert == "") != (s.ClientKey == "") {
		return nil, errors.New("--client-cert and --client-key belong together")
	}
	if s.ClientCert != "" {
		pair, err := tls.LoadX509KeyPair(s.ClientCert, s.ClientKey)
		if err != nil {
			return nil, fmt.Errorf("client certificate: %w", err)
		}
		t.TLSClientConfig.Certificates = []tls.Certificate{pair}
	}
	return t, nil
}

func certPool(path string) (*x509.CertPool, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, fmt.Errorf("%s holds no certificate", path)
	}
	return pool, nil
}
