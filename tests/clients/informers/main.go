// Shared informers of client-go: they see every object once, in order, and go on after the server was killed and after
// their resource version is too old.
//
// Reads lines from standard input: "expect N" waits until the informer's store holds N ConfigMaps labelled app=informed;
// each answer is a line "ok N" on standard output.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

const patience = 90 * time.Second

func fail(why error) {
	fmt.Fprintln(os.Stderr, why)
	os.Exit(1)
}

func main() {
	config, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		fail(err)
	}
	clients, err := kubernetes.NewForConfig(config)
	if err != nil {
		fail(err)
	}
	ctx := context.Background()
	factory := informers.NewSharedInformerFactoryWithOptions(clients, 0, informers.WithNamespace("default"),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.LabelSelector = "app=informed" }))
	informer := factory.Core().V1().ConfigMaps().Informer()
	versions := map[string]uint64{}
	note := func(object any) {
		it, isConfigMap := object.(*corev1.ConfigMap)
		if !isConfigMap {
			return
		}
		version, err := strconv.ParseUint(it.ResourceVersion, 10, 64)
		if err != nil {
			fail(err)
		}
		key := it.Name + "/" + string(it.UID)
		if version < versions[key] {
			fail(fmt.Errorf("%s went back from revision %d to %d", key, versions[key], version))
		}
		versions[key] = version
	}
	informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    note,
		UpdateFunc: func(_, object any) { note(object) },
		DeleteFunc: note,
	})
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	fmt.Println("synced")
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		wanted, err := strconv.Atoi(strings.TrimPrefix(lines.Text(), "expect "))
		if err != nil {
			fail(err)
		}
		deadline := time.Now().Add(patience)
		for len(informer.GetStore().List()) != wanted {
			if time.Now().After(deadline) {
				fail(fmt.Errorf("the store has %d objects, not %d", len(informer.GetStore().List()), wanted))
			}
			time.Sleep(20 * time.Millisecond)
		}
		// What the server has now is what the informer has.
		list, err := clients.CoreV1().ConfigMaps("default").List(ctx, metav1.ListOptions{LabelSelector: "app=informed"})
		if err != nil {
			fail(err)
		}
		for i := range list.Items {
			object, exists, err := informer.GetStore().GetByKey("default/" + list.Items[i].Name)
			if err != nil || !exists {
				fail(fmt.Errorf("%s is missing in the informer: %v", list.Items[i].Name, err))
			}
			have := object.(*corev1.ConfigMap).ResourceVersion
			for have != list.Items[i].ResourceVersion {
				if time.Now().After(deadline) {
					fail(fmt.Errorf("%s stays at revision %s", list.Items[i].Name, have))
				}
				time.Sleep(20 * time.Millisecond)
				object, exists, _ = informer.GetStore().GetByKey("default/" + list.Items[i].Name)
				if exists {
					have = object.(*corev1.ConfigMap).ResourceVersion
				}
			}
		}
		fmt.Println("ok", wanted)
	}
}
