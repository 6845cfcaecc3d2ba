package nodes_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// issuer signs certificates.
type issuer struct {
	t    *testing.T
	dir  string
	name string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newIssuer(t *testing.T, dir, name string) *issuer {
	t.Helper()
	a := &issuer{t: t, dir: dir, name: name}
	a.cert, a.key = a.write(name, &x509.Certificate{
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign, Subject: pkix.Name{CommonName: name},
	})
	return a
}

// write makes a certificate and writes it and its key.
func (a *issuer) write(name string, c *x509.Certificate) (*x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	must := func(err error) {
		a.t.Helper()
		if err != nil {
			a.t.Fatal(err)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	c.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<62))
	must(err)
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	must(err)
	keyDER, err := x509.MarshalECPrivateKey(key)
	must(err)
	must(os.WriteFile(a.path(name+".pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	must(os.WriteFile(a.path(name+".key"), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER}), 0o600))
	out, err := x509.ParseCertificate(der)
	must(err)
	return out, key
}

func (a *issuer) path(file string) string { return filepath.Join(a.dir, file) }

func (a *issuer) leaf(name string, use x509.ExtKeyUsage) {
	a.t.Helper()
	a.write(name, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{use}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	})
}

// TestMutualTLS: with real certificates a gateway is let in that shows one of the right authority, and knows its server by one; with
// none or a foreign one on either side nothing is let through.
func TestMutualTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	servers, gateways, foreign := newIssuer(t, dir, "server-ca"), newIssuer(t, dir, "gateway-ca"), newIssuer(t, dir, "foreign-ca")
	servers.leaf("server", x509.ExtKeyUsageServerAuth)
	gateways.leaf("gate", x509.ExtKeyUsageClientAuth)
	foreign.leaf("stranger", x509.ExtKeyUsageClientAuth)
	w := newWorld(t, 0, "--tls-cert", servers.path("server.pem"), "--tls-key", servers.path("server.key"), "--gateway-ca", gateways.path("gateway-ca.pem"))
	g := w.add("gate-1")
	ca := []string{"--server-ca", servers.path("server-ca.pem")}
	for _, tt := range []struct {
		name, says string
		args       []string
	}{
		{"no certificate", "certificate_missing", ca},
		{"a foreign certificate", "certificate", append(ca[:1:1], ca[1], "--client-cert", foreign.path("stranger.pem"), "--client-key", foreign.path("stranger.key"))},
		{"a foreign server", "certificate signed by unknown authority", []string{
			"--server-ca", foreign.path("foreign-ca.pem"), "--client-cert", gateways.path("gate.pem"), "--client-key", gateways.path("gate.key"),
		}},
		{"a server that the machine does not trust", "certificate", []string{"--client-cert", gateways.path("gate.pem"), "--client-key", gateways.path("gate.key")}},
	} {
		g.args = tt.args
		g.start()
		if text, err := g.process.Stderr.Until(patient(t), func(text []byte) bool { return bytes.Contains(text, []byte(tt.says)) }); err != nil {
			t.Errorf("%s: %v\n%s", tt.name, err, text)
		}
		if out := g.process.Stdout.Bytes(); len(out) > 0 {
			t.Errorf("%s: it got ready: %s", tt.name, out)
		}
		g.process.Close()
	}
	if st := w.statuses()["gate-1"]; st != "away" {
		t.Errorf("the gateway is %q", st)
	}
	g.args = append(ca[:2:2], "--client-cert", gateways.path("gate.pem"), "--client-key", gateways.path("gate.key"))
	g.start()
	g.ready()
	secret := w.customer("sure", "hundred")
	client := &http.Client{Timeout: patience}
	t.Cleanup(client.CloseIdleConnections)
	eventually(t, "a request to pass", func() bool {
		status, _, _, err := g.ask(client, secret)
		return err == nil && status == http.StatusOK
	})
	g.stop()
	if usage := w.books("sure"); usage != 1 {
		t.Errorf("usage %d", usage)
	}
}
