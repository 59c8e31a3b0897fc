stub=1
def before_and_after(model,source,config,out): return ["done"]
def affinity_over_training(*a): raise SystemExit
