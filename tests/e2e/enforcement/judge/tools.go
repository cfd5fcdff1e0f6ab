//go:build tools

// Package judge names the program that is built here: a second enforcer, with an engine of its own, as released.
package judge

import _ "sigs.k8s.io/kube-network-policies/cmd/kube-network-policies/standard"
