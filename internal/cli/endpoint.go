package cli

import (
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"net/http"
)

// Endpoint is client.json: how commands on this machine find the server and trust it.
type Endpoint struct {
	API         string `json:"api"`
	Gateway     string `json:"gateway"`
	Token       string `json:"token"`
	Certificate string `json:"certificate,omitempty"` // PEM of the server's own certificate; trusted whatever name it bears
}

// transport speaks to the server. A certificate named in client.json is pinned, so that one signed by nobody works.
func (ep Endpoint) transport() *http.Transport {
	t := &http.Transport{Proxy: http.ProxyFromEnvironment, DisableCompression: true, ForceAttemptHTTP2: true}
	if block, _ := pem.Decode([]byte(ep.Certificate)); block != nil {
		t.TLSClientConfig = &tls.Config{
			InsecureSkipVerify: true, // VerifyConnection below holds the peer to the one certificate we know
			VerifyConnection: func(cs tls.ConnectionState) error {
				if len(cs.PeerCertificates) == 0 || !bytes.Equal(cs.PeerCertificates[0].Raw, block.Bytes) {
					return errors.New("the server shows another certificate than client.json names")
				}
				return nil
			},
		}
	}
	return t
}

// Transport is the transport for commands in packages of their own.
func (ep Endpoint) Transport() *http.Transport { return ep.transport() }
