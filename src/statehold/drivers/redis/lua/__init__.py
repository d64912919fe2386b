"""What is done at the server, in Lua: each script is one command, and nothing of it is left half done.

`scripts` puts the scripts together, each from the files that it names:

    commit · erase · together · claim     one commit; an erasure; commits that stand together; an epoch
    read · renew · whole · scan           cells; cells that then last longer; a whole life; a page of ids
    install · rights                      a life from elsewhere; what the user may not do
    life · sums · cells                   what several of them share; `life` tells how a state is stored

What `commit` needs seldom is made by functions that it then calls; `life` says why.
"""
