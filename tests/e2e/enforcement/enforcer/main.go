// Command enforcer is the policy controller of kube-router alone: it watches pods, namespaces and NetworkPolicies and
// writes iptables rules and ipsets into the network namespace that it runs in. Routing and service proxy stay out.
//
// Usage: enforcer [kube-router flags...]
package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"github.com/cloudnativelabs/kube-router/v2/pkg/controllers/netpol"
	"github.com/cloudnativelabs/kube-router/v2/pkg/healthcheck"
	"github.com/cloudnativelabs/kube-router/v2/pkg/options"
	"github.com/cloudnativelabs/kube-router/v2/pkg/svcip"
	"github.com/spf13/pflag"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
)

// watch starts the informers that the controller reads and gives it their events.
func watch(client kubernetes.Interface, config *options.KubeRouterConfig, stop <-chan struct{}) (
	*netpol.NetworkPolicyController, error) {
	addresses, err := svcip.NewValidator(svcip.Config{ClusterIPCIDRs: config.ClusterIPCIDRs,
		EnableIPv4: config.EnableIPv4, EnableIPv6: config.EnableIPv6, StrictValidation: true})
	if err != nil {
		return nil, err
	}
	factory := informers.NewSharedInformerFactory(client, 0)
	pods := factory.Core().V1().Pods().Informer()
	namespaces := factory.Core().V1().Namespaces().Informer()
	policies := factory.Networking().V1().NetworkPolicies().Informer()
	factory.Start(stop)
	factory.WaitForCacheSync(stop)
	tables, sets, err := netpol.NewIPTablesHandlers(config)
	if err != nil {
		return nil, err
	}
	var mutex sync.Mutex
	controller, err := netpol.NewNetworkPolicyController(
		client, config, pods, policies, namespaces, &mutex, nil, tables, sets, addresses)
	if err != nil {
		return nil, err
	}
	if _, err := pods.AddEventHandler(controller.PodEventHandler); err != nil {
		return nil, err
	}
	if _, err := namespaces.AddEventHandler(controller.NamespaceEventHandler); err != nil {
		return nil, err
	}
	_, err = policies.AddEventHandler(controller.NetworkPolicyEventHandler)
	return controller, err
}

func run(config *options.KubeRouterConfig) error {
	rest, err := clientcmd.BuildConfigFromFlags(config.Master, config.Kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(rest)
	if err != nil {
		return err
	}
	stop := make(chan struct{})
	controller, err := watch(client, config, stop)
	if err != nil {
		return err
	}
	// The controller blocks when nobody takes its heartbeats.
	beats := make(chan *healthcheck.ControllerHeartbeat, 10)
	go func() {
		for range beats {
		}
	}()
	var running sync.WaitGroup
	running.Add(1)
	go controller.Run(beats, stop, &running)
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGINT, syscall.SIGTERM)
	<-asked
	close(stop)
	running.Wait()
	return nil
}

func main() {
	klog.InitFlags(nil)
	config := options.NewKubeRouterConfig()
	config.AddFlags(pflag.CommandLine)
	pflag.Parse()
	_ = flag.CommandLine.Parse(nil)
	_ = flag.Set("logtostderr", "true")
	_ = flag.Set("v", config.VLevel)
	if err := run(config); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
