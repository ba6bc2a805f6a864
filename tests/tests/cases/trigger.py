# Has a source baked, then built, and prints the result: trigger.py SERVER BODIES, where BODIES is a JSON object.
#
#   trigger_subject trigger    where the changed source is told of, and the message
#   event_subject              where is said what came of it
#   job_subject job            the build, and its subject
#   result_subject             where its result is heard
#
# No code of Sourdough's is involved.
import asyncio
import json
import sys

import nats


async def main(server, bodies):
    # 10 min: between two events may lie the bake of a template.
    async with asyncio.timeout(600):
        await bake_and_build(server, bodies)


async def bake_and_build(server, bodies):
    connection = await nats.connect(server)
    events = await connection.subscribe(bodies["event_subject"])
    results = await connection.subscribe(bodies["result_subject"])
    await connection.publish(bodies["trigger_subject"], json.dumps(bodies["trigger"]).encode())
    async for message in events.messages:
        event = json.loads(message.data)
        print(event["kind"], event.get("message"), file=sys.stderr)
        if event["kind"] in ("published", "failed"):
            break
    await connection.publish(bodies["job_subject"], json.dumps(bodies["job"]).encode())
    result = await results.next_msg(timeout=600)
    print(result.data.decode())
    await connection.close()


asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))
