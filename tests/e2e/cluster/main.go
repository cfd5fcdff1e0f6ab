// Command apiserver is a whole Kubernetes API for tests: kube-apiserver with
// etcd inside the same process, so that one signal ends both.
//
// Usage: apiserver DIRECTORY [kube-apiserver flags...]
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/url"
	"os"
	"path/filepath"

	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

// startEtcd serves a throw-away store on a free loopback port and returns its URL.
func startEtcd(directory string) (string, error) {
	loopback := url.URL{Scheme: "http", Host: "127.0.0.1:0"}
	config := embed.NewConfig()
	config.Dir = directory
	config.ListenClientUrls = []url.URL{loopback}
	config.ListenPeerUrls = []url.URL{loopback}
	config.LogLevel = "error"
	// Nothing outlives the test, so nothing needs to reach the disk.
	config.UnsafeNoFsync = true
	server, err := embed.StartEtcd(config)
	if err != nil {
		return "", err
	}
	<-server.Server.ReadyNotify()
	return "http://" + server.Clients[0].Addr().String(), nil
}

// writeKey makes the key that the server insists on for service accounts.
func writeKey(path string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	block := &pem.Block{Type: "EC PRIVATE KEY", Bytes: der}
	return os.WriteFile(path, pem.EncodeToMemory(block), 0o600)
}

func run(directory string, flags []string) (int, error) {
	endpoint, err := startEtcd(filepath.Join(directory, "etcd"))
	if err != nil {
		return 1, fmt.Errorf("etcd did not start: %w", err)
	}
	key := filepath.Join(directory, "service-account.key")
	if err := writeKey(key); err != nil {
		return 1, fmt.Errorf("no service account key: %w", err)
	}
	command := app.NewAPIServerCommand()
	command.SetArgs(append(flags,
		"--etcd-servers="+endpoint,
		"--cert-dir="+filepath.Join(directory, "certificates"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+key,
		"--service-account-signing-key-file="+key))
	return cli.Run(command), nil
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: apiserver DIRECTORY [kube-apiserver flags...]")
		os.Exit(2)
	}
	code, err := run(os.Args[1], os.Args[2:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(code)
}
