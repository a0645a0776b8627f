import subprocess, sys
from tests.support.postgres import postgres_server, migrated
with postgres_server() as server:
    print(subprocess.run([sys.executable,"-m","loadtests.instances","--store",migrated(server)],capture_output=True,text=True))
print(subprocess.run([sys.executable,"-m","loadtests.instances"],capture_output=True,text=True))
