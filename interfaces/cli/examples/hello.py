import json
from datetime import datetime
def handler(event):
    print(f'Event: {event}')
    return {'statusCode': 200, 'body': json.dumps({'message': f'Hello, {event.get("name", "World")}!', 'timestamp': datetime.now().isoformat()})}
